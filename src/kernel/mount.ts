/** Mounting and unmounting, as root by system call, as anybody else through the setuid helper `fusermount3`. */
import { closeSync, constants, openSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { cloneDevice, hasAddon, mountSyscall, unmountSyscall } from './binding.ts';
import { errnoName } from './errors.ts';
import { fusermountMount, fusermountUnmount } from './fusermount.ts';
import { MountError } from './mount-error.ts';
import { findMount } from './mount-table.ts';
import { ERRNO, MAX_TRANSFER_BYTES } from './protocol.ts';
import { runUmount } from './umount.ts';

export const FILE_SYSTEM_TYPE = 'fuse.tsfs';
export const DEVICE = '/dev/fuse';

const MS_RDONLY = 1;
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_NOEXEC = 8;
const MS_NOATIME = 1024;

const MNT_FORCE = 1;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

/** How long a mount point may take to say what it is, before its daemon counts as hung. */
const PROBE_TIMEOUT_MS = 5_000;

export interface MountOptions {
  /** First column of the mount table: what is mounted. */
  readonly source: string;
  /** An existing directory. */
  readonly mountPoint: string;
  readonly readOnly: boolean;
  /** Let other users in. A normal user needs `user_allow_other` in /etc/fuse.conf. */
  readonly allowOther: boolean;
  /** The kernel checks permissions by mode, owner and group. */
  readonly defaultPermissions: boolean;
  readonly noExec: boolean;
  readonly noAtime: boolean;
  /** An open /dev/fuse that nothing was mounted with, to be the descriptor that is served. Default: one is opened. */
  readonly deviceFd?: number | undefined;
}

/** Set-user-id programs and device files of a bucket are never honoured. */
function mountFlags(options: MountOptions): number {
  return (
    MS_NOSUID |
    MS_NODEV |
    (options.readOnly ? MS_RDONLY : 0) |
    (options.noExec ? MS_NOEXEC : 0) |
    (options.noAtime ? MS_NOATIME : 0)
  );
}

/**
 * Mounts, and returns the descriptor to be served (`startSession`); until then whoever touches the mount point waits.
 * A dead mount of ours that is in the way is removed first.
 * @throws MountError
 */
export async function mountFuse(options: MountOptions): Promise<number> {
  const mountPoint = resolve(options.mountPoint);
  await prepareMountPoint(mountPoint);
  return process.geteuid?.() === 0 ? mountAsRoot(options, mountPoint) : mountAsUser(options, mountPoint);
}

/**
 * @param lazy detach at once, even while files are open.
 * @throws MountError
 */
export async function unmountFuse(mountPoint: string, lazy: boolean): Promise<void> {
  const path = resolve(mountPoint);
  if (process.geteuid?.() !== 0) return fusermountUnmount(path, lazy);
  return unmountAsRoot(path, lazy ? MNT_DETACH : 0);
}

async function unmountAsRoot(path: string, flags: number): Promise<void> {
  if (!hasAddon()) {
    return runUmount(path, [
      ...((flags & MNT_DETACH) === 0 ? [] : (['--lazy'] as const)),
      ...((flags & MNT_FORCE) === 0 ? [] : (['--force'] as const)),
    ]);
  }
  const errno = await unmountSyscall(path, UMOUNT_NOFOLLOW | flags);
  if (errno === 0) return;
  if (errno === ERRNO.EBUSY) {
    throw new MountError('busy', `${path} is in use: close the files in it, or unmount lazily`);
  }
  if (errno === ERRNO.EINVAL || errno === ERRNO.ENOENT) {
    throw new MountError('not-mounted', `${path} is not a mount point`);
  }
  throw new MountError('failed', `${path} could not be unmounted: ${errnoName(errno)}`);
}

/**
 * Ends a mount whatever state its daemon is in: every request that waits, and every later one, fails. The last resort:
 * an ordinary unmount, and even SIGKILL to the daemon, can wait for ever when one of its threads waits inside the kernel
 * (an invalidation, for a read) for an answer that never comes. A normal user can only unmount lazily.
 * @throws MountError
 */
export async function abortMount(mountPoint: string): Promise<void> {
  const path = resolve(mountPoint);
  if (process.geteuid?.() !== 0) return fusermountUnmount(path, true);
  return unmountAsRoot(path, MNT_FORCE | MNT_DETACH);
}

/**
 * Makes sure that something can be mounted here. A dead mount of ours that is in the way is removed.
 * @throws MountError
 */
export async function prepareMountPoint(mountPoint: string): Promise<void> {
  const code = await probe(mountPoint);
  if (code === 'ENOTCONN') {
    // "Transport endpoint is not connected": the daemon of an earlier mount is gone and can serve it no more.
    await unmountFuse(mountPoint, true);
    return prepareMountPoint(mountPoint);
  }
  if (code === 'ENOENT') throw new MountError('no-mount-point', `${mountPoint} does not exist; create it first`);
  if (code === 'ENOTDIR') throw new MountError('not-a-directory', `${mountPoint} is not a directory`);
  if (code === 'EACCES') {
    throw new MountError('no-permission', `no permission to reach ${mountPoint}; it may be another user's mount`);
  }
  if (code === 'ETIMEDOUT') {
    throw new MountError('already-mounted', `${mountPoint} is a mount that does not answer; unmount it lazily first`);
  }
  if (code !== undefined) throw new MountError('failed', `${mountPoint} cannot be used: ${code}`);
  const mounted = await findMount(mountPoint);
  if (mounted?.type === FILE_SYSTEM_TYPE) {
    throw new MountError('already-mounted', `${mounted.source} is already mounted on ${mountPoint}; unmount it first`);
  }
}

/** Undefined: a directory. Otherwise why not, as an error code. */
async function probe(path: string): Promise<string | undefined> {
  const { promise: late, resolve: giveUp } = Promise.withResolvers<string>();
  const timer = setTimeout(() => giveUp('ETIMEDOUT'), PROBE_TIMEOUT_MS);
  const kind = stat(path).then(
    (found) => (found.isDirectory() ? undefined : 'ENOTDIR'),
    (error: NodeJS.ErrnoException) => error.code ?? 'EIO',
  );
  try {
    return await Promise.race([kind, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** @throws MountError when FUSE cannot be used here. */
export function checkDevice(): void {
  closeSync(openDevice());
}

function openDevice(): number {
  try {
    return openSync(DEVICE, constants.O_RDWR);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'EACCES' || code === 'EPERM') {
      throw new MountError('no-permission', `no permission to open ${DEVICE}; in a container add the device`, {
        cause,
      });
    }
    throw new MountError('no-fuse', `${DEVICE} is missing; load the kernel module with "modprobe fuse"`, { cause });
  }
}

function mountAsRoot(options: MountOptions, mountPoint: string): number {
  const fd = options.deviceFd ?? openDevice();
  const data = [
    `fd=${fd}`,
    'rootmode=40000',
    `user_id=${process.geteuid?.() ?? 0}`,
    `group_id=${process.getegid?.() ?? 0}`,
    `max_read=${MAX_TRANSFER_BYTES}`,
    ...(options.allowOther ? ['allow_other'] : []),
    ...(options.defaultPermissions ? ['default_permissions'] : []),
  ].join(',');
  const errno = mountSyscall(options.source, mountPoint, FILE_SYSTEM_TYPE, mountFlags(options), data);
  if (errno === 0) return fd;
  if (options.deviceFd === undefined) closeSync(fd);
  if (errno === ERRNO.EPERM || errno === ERRNO.EACCES) {
    throw new MountError('no-permission', 'mount(2) is not permitted; in a container add the capability SYS_ADMIN');
  }
  if (errno === ERRNO.ENODEV) {
    throw new MountError('no-fuse', 'this kernel has no FUSE; load the kernel module with "modprobe fuse"');
  }
  if (errno === ERRNO.EBUSY) throw new MountError('busy', `${mountPoint} is in use by another mount`);
  throw new MountError('failed', `${mountPoint} could not be mounted: ${errnoName(errno)}`);
}

async function mountAsUser(options: MountOptions, mountPoint: string): Promise<number> {
  const list = [
    'nosuid',
    'nodev',
    `subtype=${FILE_SYSTEM_TYPE.slice('fuse.'.length)}`,
    // fusermount3 splits at commas that no backslash precedes.
    `fsname=${options.source.replace(/[\\,]/g, '\\$&')}`,
    `max_read=${MAX_TRANSFER_BYTES}`,
    options.readOnly ? 'ro' : 'rw',
    ...(options.noExec ? ['noexec'] : []),
    ...(options.noAtime ? ['noatime'] : []),
    ...(options.allowOther ? ['allow_other'] : []),
    ...(options.defaultPermissions ? ['default_permissions'] : []),
  ];
  const fd = await fusermountMount(mountPoint, list.join(','));
  if (options.deviceFd === undefined) return fd;
  // The helper opens a device of its own: a second one on the same connection takes its place.
  const errno = cloneDevice(options.deviceFd, fd);
  closeSync(fd);
  if (errno === 0) return options.deviceFd;
  throw new MountError('failed', `${mountPoint} could not be handed over: ${errnoName(errno)}`);
}
