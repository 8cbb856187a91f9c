/** The mount table. Never touches a mount point itself, as that could hang. */
import { setTimeout as sleep } from 'node:timers/promises';
import { findMount } from '../../src/kernel/mount-table.ts';
import { type Background, run } from './programs.ts';

const POLL_MS = 20;

export async function isMounted(directory: string): Promise<boolean> {
  return (await findMount(directory)) !== undefined;
}

/** Resolves when something is mounted there; rejects when its daemon ends before, or after the limit. */
export async function waitUntilMounted(directory: string, daemon: Background, limitMs = 20_000): Promise<void> {
  const deadlineMs = performance.now() + limitMs;
  while (!(await isMounted(directory))) {
    if (daemon.hasEnded) throw new Error(`the mount ended at once: ${daemon.output}`);
    if (performance.now() > deadlineMs) throw new Error(`not mounted within ${limitMs / 1000} s: ${daemon.output}`);
    await sleep(POLL_MS);
  }
}

/** Unmounts if it is mounted; detaches it where it is busy or its daemon is gone. */
export async function unmount(directory: string): Promise<void> {
  const attempts: [string, string[]][] =
    process.getuid?.() === 0
      ? [
          ['umount', [directory]],
          ['umount', ['-l', directory]],
        ]
      : [
          ['fusermount3', ['-u', directory]],
          ['fusermount3', ['-uz', directory]],
        ];
  let failure: unknown;
  for (const [program, args] of attempts) {
    if (!(await isMounted(directory))) return;
    failure = await run(program, args, { limitMs: 10_000 }).then(
      () => undefined,
      (error: unknown) => error,
    );
  }
  if (await isMounted(directory)) throw new Error(`cannot unmount ${directory}`, { cause: failure });
}
