/** `tsfs umount DIR`: everything into the bucket, then away with the mount. */
import { resolve } from 'node:path';
import { FILE_SYSTEM_TYPE, unmountFuse } from '../kernel/mount.ts';
import { MountError as KernelMountError } from '../kernel/mount-error.ts';
import { findMount } from '../kernel/mount-table.ts';
import { askControl, isServed, NoDaemonError } from '../mount/control.ts';
import { controlSocketPath, runDirectory } from '../mount/directories.ts';
import { EXIT, MountError } from '../mount/errors.ts';
import { findMountpoint, realName } from '../mount/preflight.ts';
import type { DrainProgress, DrainReport, MountStatus } from '../mount/status.ts';
import { printable, type Terminal } from './terminal.ts';

export interface UmountArguments {
  readonly directory: string;
  /** Detach at once; who has files open keeps them. */
  readonly lazy: boolean;
  /** Lazy, and without waiting for uploads. */
  readonly force: boolean;
}

/** After the unmount the daemon writes what was changed meanwhile and closes its index. */
const END_TIMEOUT_MS = 60_000;
const POLL_MS = 100;

export async function umountCommand(args: UmountArguments, uid: number, terminal: Terminal): Promise<number> {
  const mountpoint = await unmountable(resolve(args.directory));
  const ownerUid = (await findMount(mountpoint))?.ownerUid ?? uid;
  const socket = controlSocketPath(runDirectory(ownerUid), mountpoint);
  const status = await daemonStatus(socket, args.force);
  if (status !== undefined && !args.force) await drain(socket, mountpoint, terminal);
  if (status === undefined && !args.force) {
    terminal.note(`No daemon serves ${mountpoint}: changes that are not uploaded wait for the next mount.`);
  }
  // Nobody can close files of a mount without daemon: it only goes lazily.
  await unmount(mountpoint, args.lazy || args.force || status === undefined);
  if (status !== undefined && !args.lazy && !args.force) await waitForEnd(socket, mountpoint, terminal);
  return EXIT.ok;
}

/** The path in the mount table. Rejects when nothing of tsfs is mounted there. */
async function unmountable(path: string): Promise<string> {
  const mountpoint = await findMountpoint(path).catch(() => realName(path));
  const entry = await findMount(mountpoint);
  if (entry === undefined) throw new MountError(`Nothing is mounted on ${path}.`);
  if (entry.type !== FILE_SYSTEM_TYPE)
    throw new MountError(`${path} is not a mount of tsfs, but of type ${entry.type}.`);
  return mountpoint;
}

/** undefined: there is no daemon, or (with force) none that answers. */
async function daemonStatus(socket: string, force: boolean): Promise<MountStatus | undefined> {
  try {
    return (await askControl(socket, 'status')) as MountStatus;
  } catch (error) {
    if (error instanceof NoDaemonError || force) return undefined;
    throw error;
  }
}

async function drain(socket: string, mountpoint: string, terminal: Terminal): Promise<void> {
  const report = (await askControl(socket, 'drain', (value) => {
    const { remainingFiles } = value as DrainProgress;
    terminal.progress(`${remainingFiles} files to upload`);
  })) as DrainReport;
  terminal.progress('');
  const [first] = report.failed;
  if (first === undefined) return;
  const name = printable(`${first.name}: ${first.error}`);
  throw new MountError(
    `${mountpoint} stays mounted, as ${report.failed.length} changes could not be uploaded (${name}); ` +
      '--force unmounts, and they are uploaded at the next mount.',
  );
}

async function unmount(mountpoint: string, lazy: boolean): Promise<void> {
  try {
    await unmountFuse(mountpoint, lazy);
  } catch (error) {
    if (!(error instanceof KernelMountError)) throw error;
    if (error.failure === 'busy') {
      throw new MountError(`${mountpoint} is in use: see who by fuser -vm ${mountpoint}, or unmount with --lazy.`);
    }
    throw new MountError(`${error.message}.`, EXIT.failure, error);
  }
}

/** Its socket is there for as long as any worker. */
async function waitForEnd(socket: string, mountpoint: string, terminal: Terminal): Promise<void> {
  for (let waitedMs = 0; await isServed(socket); waitedMs += POLL_MS) {
    if (waitedMs >= END_TIMEOUT_MS) {
      terminal.note(`${mountpoint} is unmounted; its daemon is still uploading, see: tsfs status`);
      return;
    }
    await new Promise((resume) => setTimeout(resume, POLL_MS));
  }
}
