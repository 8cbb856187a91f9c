/** `tsfs status [DIR] [--json]` */
import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { FILE_SYSTEM_TYPE } from '../kernel/mount.ts';
import { readMounts } from '../kernel/mount-table.ts';
import { callControl, NoDaemonError } from '../mount/control.ts';
import { controlSocketPath, runDirectory } from '../mount/directories.ts';
import { EXIT, MountError, systemCode } from '../mount/errors.ts';
import { findMountpoint, realName } from '../mount/preflight.ts';
import type { MountStatus } from '../mount/status.ts';
import { describeMount, type FoundMount, isAnswering } from './status-text.ts';
import type { Terminal } from './terminal.ts';

export interface StatusArguments {
  readonly directory: string | undefined;
  readonly json: boolean;
}

/** Exits 0 when what was asked for is there and answers, 1 otherwise. */
export async function statusCommand(args: StatusArguments, uid: number, terminal: Terminal): Promise<number> {
  const mounts = await findMounts(uid);
  const selected = args.directory === undefined ? mounts : [await select(mounts, resolve(args.directory))];
  if (args.json) terminal.out(JSON.stringify(args.directory === undefined ? selected : selected[0], undefined, 2));
  else if (selected.length === 0) terminal.out('Nothing is mounted by tsfs.');
  else terminal.out(selected.map((mount) => describeMount(mount, Date.now())).join('\n\n'));
  return selected.every(isAnswering) ? EXIT.ok : EXIT.failure;
}

async function select(mounts: readonly FoundMount[], path: string): Promise<FoundMount> {
  const mountpoint = await findMountpoint(path).catch(() => realName(path));
  const found = mounts.find((mount) => mount.mountpoint === mountpoint);
  if (found === undefined) throw new MountError(`Nothing is mounted by tsfs on ${path}.`);
  return found;
}

/** What the kernel lists, and daemons that still upload after their unmount. */
async function findMounts(uid: number): Promise<FoundMount[]> {
  const entries = (await readMounts()).filter((entry) => entry.type === FILE_SYSTEM_TYPE);
  const mounted = entries.map(({ source, mountPoint, ownerUid }) => ({
    source,
    mountpoint: mountPoint,
    socket: controlSocketPath(runDirectory(ownerUid ?? uid), mountPoint),
  }));
  const known = new Set(mounted.map(({ socket }) => socket));
  const others = (await sockets(runDirectory(uid))).filter((socket) => !known.has(socket));
  const found = await Promise.all(mounted.map((mount) => ask(mount.socket, mount)));
  const finishing = await Promise.all(others.map((socket) => ask(socket)));
  return [...found, ...finishing].filter((mount) => mount !== undefined);
}

async function sockets(directory: string): Promise<string[]> {
  try {
    const names = await readdir(directory);
    return names.filter((name) => name.endsWith('.sock')).map((name) => join(directory, name));
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw new MountError(`The directory ${directory} cannot be read (${systemCode(error) ?? 'unknown reason'}).`);
  }
}

/** undefined: nobody answers, and nothing is mounted either (a socket that a crash left). */
async function ask(
  socket: string,
  mount?: { readonly source: string; readonly mountpoint: string },
): Promise<FoundMount | undefined> {
  try {
    return (await callControl(socket, 'status')) as MountStatus;
  } catch (error) {
    if (mount === undefined) return undefined;
    const { source, mountpoint } = mount;
    if (error instanceof NoDaemonError) {
      return { source, mountpoint, state: 'dead', reason: `Its daemon is gone; run: tsfs umount ${mountpoint}` };
    }
    return {
      source,
      mountpoint,
      state: 'silent',
      reason: error instanceof MountError ? error.sentence : String(error),
    };
  }
}
