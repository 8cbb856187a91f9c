/** `tsfs restart DIR`: another worker, of the version that is installed now, goes on with the mount. No call on it fails. */
import { findMount } from '../kernel/mount-table.ts';
import { askControl, callControl } from '../mount/control.ts';
import { controlSocketPath, runDirectory } from '../mount/directories.ts';
import { EXIT } from '../mount/errors.ts';
import { findMountpoint } from '../mount/preflight.ts';
import type { MountStatus } from '../mount/status.ts';
import type { Terminal } from './terminal.ts';

export async function restartCommand(directory: string, uid: number, terminal: Terminal): Promise<number> {
  const mountpoint = await findMountpoint(directory);
  const ownerUid = (await findMount(mountpoint))?.ownerUid ?? uid;
  const socket = controlSocketPath(runDirectory(ownerUid), mountpoint);
  await callControl(socket, 'swap');
  const after = (await askControl(socket, 'status')) as MountStatus;
  terminal.note(`${after.source} on ${mountpoint} is served by pid ${after.pid} now, tsfs ${after.version}.`);
  return EXIT.ok;
}
