/**
 * A process that mounts the toy file system and serves it. Its parent gives the options and asks questions over IPC, and
 * ends the process by disconnecting.
 */
import { closeSync, openSync } from 'node:fs';
import { silentLogger } from '../../../src/base/log.ts';
import type { Caller } from '../../../src/kernel/contract.ts';
import { abortMount, type MountOptions, mountFuse, unmountFuse } from '../../../src/kernel/mount.ts';
import { startSession } from '../../../src/kernel/session.ts';
import { ToyFileSystem, type ToyOptions } from './toy-fs.ts';

export interface DaemonOptions {
  readonly scratch: string;
  readonly mount: MountOptions;
  readonly toy: ToyOptions;
  readonly passthrough: boolean;
  readonly withoutOpens: boolean;
}

/** What the parent may ask for. */
export type Question =
  | { ask: 'status' }
  | { ask: 'invalidateEntry'; name: string }
  | { ask: 'invalidateNode'; path: string; offset: number }
  | { ask: 'renameBehind'; from: string; to: string }
  | { ask: 'setSizeBehind'; path: string; sizeBytes: number }
  | { ask: 'unmount'; lazy: boolean }
  | { ask: 'letGo' }
  | { ask: 'publish'; path: string; ttlMs: number; file?: string }
  | { ask: 'withdraw'; path: string }
  | { ask: 'limitXattrs'; prefixes: readonly string[] }
  | { ask: 'stop' };

const options = JSON.parse(process.argv[2] ?? '') as DaemonOptions;

function tell(message: object): void {
  // Nobody is left to be told when the parent has gone.
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
}

async function main(): Promise<void> {
  const toy = new ToyFileSystem(options.scratch, options.toy);
  const fd = await mountFuse(options.mount);
  const { passthrough, withoutOpens } = options;
  const session = startSession({ fd, operations: toy, log: silentLogger, passthrough, withoutOpens });

  async function answer(question: Question): Promise<unknown> {
    if (question.ask === 'invalidateEntry') return session.notifier.invalidateEntry(toy.nodeOf('/'), question.name);
    if (question.ask === 'invalidateNode') {
      return session.notifier.invalidateNode(toy.nodeOf(question.path), question.offset, 0);
    }
    if (question.ask === 'renameBehind') return toy.renameBehind(question.from, question.to);
    if (question.ask === 'setSizeBehind') return toy.setSizeBehind(question.path, question.sizeBytes);
    if (question.ask === 'unmount') return unmountFuse(options.mount.mountPoint, question.lazy);
    if (question.ask === 'letGo') return toy.letGo();
    if (question.ask === 'publish') return publish(question);
    if (question.ask === 'withdraw') return session.hotNodes.withdraw(toy.nodeOf(question.path));
    if (question.ask === 'limitXattrs') return session.hotNodes.limitXattrs(question.prefixes);
    if (question.ask === 'stop') return session.stop();
    const { calls, destroyed, aborted, lookups } = toy;
    return { ...session.status(), calls, destroyed, aborted, lookups };
  }

  async function publish({ path, ttlMs, file }: Extract<Question, { ask: 'publish' }>): Promise<boolean> {
    const node = toy.nodeOf(path);
    const { attributes } = await toy.getAttributes({} as Caller, node);
    const fd = file === undefined ? undefined : openSync(file, 'r');
    const isPublished = session.hotNodes.publish(node, { attributes, ttlMs, fd });
    // The driver has its own.
    if (fd !== undefined) closeSync(fd);
    return isPublished;
  }

  process.on('message', ({ id, question }: { id: number; question: Question }) => {
    answer(question).then(
      (result) => tell({ id, result }),
      (error: Error) => tell({ id, error: error.message }),
    );
  });
  // The parent has gone: nothing may stay mounted.
  const abandon = () => void abortMount(options.mount.mountPoint);
  process.on('disconnect', abandon);
  tell({ ready: true });
  const end = await session.ended;
  process.off('disconnect', abandon);
  closeSync(fd);
  tell({ ended: end.reason, destroyed: toy.destroyed });
  toy.dispose();
}

main().catch((error: Error) => {
  tell({ failed: error.message });
  process.exitCode = 1;
});
