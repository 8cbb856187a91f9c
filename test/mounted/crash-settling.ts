/** When a mount has brought to the bucket what it owed. */

import { callControl } from '../../src/mount/control.ts';
import { controlSocketPath, runDirectory } from '../../src/mount/directories.ts';
import type { MountStatus } from '../../src/mount/status.ts';
import { eventually, type TestServer } from './harness.ts';

/** Resolves when nothing is pending any more; throws when something still is after that time. */
export async function settledPending(server: TestServer, limitMs: number): Promise<void> {
  const socket = controlSocketPath(runDirectory(process.getuid?.() ?? 0), server.dir);
  await eventually(async () => {
    const { pending } = (await callControl(socket, 'status')) as MountStatus;
    if (pending.files + pending.intents > 0) throw new Error(`still pending: ${JSON.stringify(pending)}`);
  }, limitMs);
}
