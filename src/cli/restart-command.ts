/** `tsfs restart DIR`: another worker, of the version that is installed now, goes on with the mount. No call on it fails. */
import { setTimeout as sleep } from 'node:timers/promises';
import { findMount } from '../kernel/mount-table.ts';
import { callControl, NoDaemonError } from '../mount/control.ts';
import { controlSocketPath, runDirectory } from '../mount/directories.ts';
import { EXIT, MountError } from '../mount/errors.ts';
import { findMountpoint } from '../mount/preflight.ts';
import type { MountStatus } from '../mount/status.ts';
import type { Terminal } from './terminal.ts';

const READY_TIMEOUT_MS = 30_000;
const POLL_MS = 50;

export async function restartCommand(directory: string, uid: number, terminal: Terminal): Promise<number> {
  const mountpoint = await findMountpoint(directory);
  const ownerUid = (await findMount(mountpoint))?.ownerUid ?? uid;
  const socket = controlSocketPath(runDirectory(ownerUid), mountpoint);
  const before = (await callControl(socket, 'status')) as MountStatus;
  await callControl(socket, 'swap');
  const after = await successor(socket, before);
  terminal.note(`${after.source} on ${mountpoint} is served by pid ${after.pid} now, tsfs ${after.version}.`);
  return EXIT.ok;
}

async function successor(socket: string, before: MountStatus): Promise<MountStatus> {
  for (let waitedMs = 0; waitedMs < READY_TIMEOUT_MS; waitedMs += POLL_MS) {
    await sleep(POLL_MS);
    const status = await statusOrNothing(socket);
    if (status !== undefined && status.pid !== before.pid) return status;
  }
  throw new MountError(`No worker has taken over after ${READY_TIMEOUT_MS / 1000} s; see the log.`);
}

/** Undefined between two workers: the one breaks off while it ends, and the next does not listen yet. */
async function statusOrNothing(socket: string): Promise<MountStatus | undefined> {
  try {
    return (await callControl(socket, 'status')) as MountStatus;
  } catch (error) {
    if (error instanceof NoDaemonError || error instanceof MountError) return undefined;
    throw error;
  }
}
