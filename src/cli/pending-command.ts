/** `tsfs pending BUCKET|DIR [--json]`: what the bucket does not have yet. */
import { resolve } from 'node:path';
import { IndexError } from '../index/contract.ts';
import { openIndexReader } from '../index/reader.ts';
import { FILE_SYSTEM_TYPE } from '../kernel/mount.ts';
import { findMount } from '../kernel/mount-table.ts';
import type { MountConfig } from '../mount/config.ts';
import { callControl, NoDaemonError } from '../mount/control.ts';
import { controlSocketPath, runDirectory } from '../mount/directories.ts';
import { EXIT, MountError, systemCode } from '../mount/errors.ts';
import { indexPath, stagingDirectory } from '../mount/layers.ts';
import { collect, listKept, listPending, type PendingChange, type PendingList } from '../mount/pending.ts';
import { realName } from '../mount/preflight.ts';
import type { Host } from './host.ts';
import { pendingText } from './pending-text.ts';
import { findTarget, type TargetArguments } from './target.ts';
import type { Terminal } from './terminal.ts';

/** Exits 0 when the bucket has everything, 1 when it does not. */
export async function pendingCommand(
  args: TargetArguments & { readonly json: boolean },
  host: Host,
  terminal: Terminal,
): Promise<number> {
  const list = await pendingList(args, host, terminal);
  if (args.json) terminal.out(JSON.stringify(list, undefined, 2));
  else terminal.out(pendingText(list, Date.now()));
  return list.count === 0 ? EXIT.ok : EXIT.failure;
}

async function pendingList(args: TargetArguments, host: Host, terminal: Terminal): Promise<PendingList> {
  const socket = await socketOfMount(args.word, host.uid);
  const told = socket === undefined ? undefined : await ask(socket);
  if (told !== undefined) return told;
  const config = await findTarget(args, host);
  return (await ask(config.controlSocket)) ?? (await look(config, terminal));
}

/** Of the mount that is there now, whoever it belongs to. */
async function socketOfMount(word: string | undefined, uid: number): Promise<string | undefined> {
  if (word === undefined) return undefined;
  const mountpoint = await realName(resolve(word)).catch(() => undefined);
  const entry = mountpoint === undefined ? undefined : await findMount(mountpoint);
  if (mountpoint === undefined || entry?.type !== FILE_SYSTEM_TYPE) return undefined;
  return controlSocketPath(runDirectory(entry.ownerUid ?? uid), mountpoint);
}

/** undefined: there is no daemon. */
async function ask(socket: string): Promise<PendingList | undefined> {
  const changes: PendingChange[] = [];
  try {
    const count = await callControl(socket, 'pending', null, (value) => changes.push(value as PendingChange));
    return { changes, count: Number(count) };
  } catch (error) {
    if (error instanceof NoDaemonError) return undefined;
    throw error;
  }
}

async function look(config: MountConfig, terminal: Terminal): Promise<PendingList> {
  const staging = stagingDirectory(config);
  try {
    const index = openIndexReader(indexPath(config));
    const place = { index, stagingDirectory: staging, prefix: config.prefix };
    return await collect(listPending(place)).finally(() => index.close());
  } catch (error) {
    if (error instanceof IndexError) throw new MountError(`What is pending cannot be told: ${error.message}.`);
    if (systemCode(error) !== 'SQLITE_CANTOPEN') throw error;
    terminal.note(`There is no index in ${config.stateDirectory}.`);
    return collect(listKept(staging));
  }
}
