/** What can be told before anything is started: whether this host can mount here, in one sentence when not. */
import { constants } from 'node:fs';
import { access, open, readdir, readFile, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { FILE_SYSTEM_TYPE } from '../kernel/mount.ts';
import { findMount, type MountEntry, readMounts } from '../kernel/mount-table.ts';
import type { MountConfig } from './config.ts';
import { callControl, NoDaemonError } from './control.ts';
import { loadCredentials } from './credentials.ts';
import { MountError, systemCode } from './errors.ts';

/**
 * Absolute and real, without touching the directory itself: it may be a dead mount, where every call fails or hangs. `path`
 * is absolute.
 */
export async function realMountpoint(path: string): Promise<string> {
  if (path === '/') return path;
  try {
    return join(await realpath(dirname(path)), basename(path));
  } catch (error) {
    throw new MountError(`The directory ${path} cannot be reached (${systemCode(error) ?? 'unknown reason'}).`);
  }
}

/**
 * For a mount point where nothing of tsfs is mounted: follows a symbolic link there and resolves with the real path. Rejects with
 * a `MountError` when it is no directory, or something else is mounted on it.
 */
export async function checkDirectory(mountpoint: string): Promise<string> {
  const path = await realDirectory(mountpoint);
  if (path === '/') throw new MountError('A bucket cannot be mounted on /.');
  const present = (await readMounts()).findLast((entry) => entry.mountPoint === path);
  if (present === undefined) return path;
  throw new MountError(`${path} is a mount point already: ${present.source} (${present.type}) is mounted there.`);
}

async function realDirectory(mountpoint: string): Promise<string> {
  try {
    const path = await realpath(mountpoint);
    if ((await stat(path)).isDirectory()) return path;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') throw new MountError(`The directory ${mountpoint} does not exist.`);
    throw new MountError(`The directory ${mountpoint} cannot be used (${systemCode(error) ?? 'unknown reason'}).`);
  }
  throw new MountError(`${mountpoint} is not a directory.`);
}

export async function isEmpty(directory: string): Promise<boolean> {
  return (await readdir(directory)).length === 0;
}

/**
 * What tsfs has at the mount point. `alive`: this source is mounted, and its daemon answers. `dead`: a mount is there, but no
 * daemon. `finishing`: nothing is mounted, but the daemon of an earlier mount still uploads. Rejects with a `MountError` when a
 * living daemon serves another source there.
 */
export async function presentMount(
  config: Pick<MountConfig, 'mountpoint' | 'source' | 'controlSocket'>,
): Promise<'none' | 'alive' | 'dead' | 'finishing'> {
  const entry = await findMount(config.mountpoint);
  const mounted = entry?.type === FILE_SYSTEM_TYPE ? entry : undefined;
  try {
    await callControl(config.controlSocket, 'status');
  } catch (error) {
    if (error instanceof NoDaemonError) return mounted === undefined ? 'none' : 'dead';
    throw error;
  }
  if (mounted === undefined) return 'finishing';
  if (mounted.source === config.source) return 'alive';
  throw new MountError(`${config.mountpoint} has another bucket mounted already: ${mounted.source}.`);
}

/** The rest of what a mount needs. */
export async function checkHost(config: MountConfig, uid: number): Promise<void> {
  const table = await readMounts();
  await checkFuse(uid, config.kernel.allowOther);
  await checkPlace('cache', config.cache.directory, config.mountpoint, table);
  await checkPlace('state', config.stateDirectory, config.mountpoint, table);
  if (isWithin(config.stateDirectory, config.cache.directory)) {
    throw new MountError('The state directory must not be inside the cache, which may be emptied at any time.');
  }
  await loadCredentials(config.store.credentials, config.bucket);
}

async function checkFuse(uid: number, allowOther: boolean): Promise<void> {
  try {
    const device = await open('/dev/fuse', 'r+');
    await device.close();
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EACCES' || code === 'EPERM') {
      throw new MountError(
        'There is no permission to open /dev/fuse: mount as root, or let this user (or container) use it.',
      );
    }
    throw new MountError(
      'There is no /dev/fuse: load the kernel module (modprobe fuse), or give the device to the container.',
    );
  }
  if (uid === 0) return;
  if (!(await isOnPath('fusermount3'))) {
    throw new MountError('A normal user needs fusermount3 to mount: install the package fuse3, or mount as root.');
  }
  if (allowOther && !(await allowsOther())) {
    throw new MountError('allow_other needs the line user_allow_other in /etc/fuse.conf, or root.');
  }
}

async function isOnPath(program: string): Promise<boolean> {
  const directories = [...(process.env.PATH ?? '').split(':'), '/usr/bin', '/bin'];
  const found = await Promise.all(
    directories.map((directory) =>
      access(join(directory, program), constants.X_OK).then(
        () => directory !== '',
        () => false,
      ),
    ),
  );
  return found.includes(true);
}

async function allowsOther(): Promise<boolean> {
  const text = await readFile('/etc/fuse.conf', 'utf8').catch(() => '');
  return /^\s*user_allow_other\s*$/m.test(text);
}

/** Reading its own cache through a mount, the daemon would wait for itself. */
async function checkPlace(
  what: 'cache' | 'state',
  directory: string,
  mountpoint: string,
  table: readonly MountEntry[],
): Promise<void> {
  const path = await realExisting(directory);
  if (isWithin(path, mountpoint)) {
    throw new MountError(`The ${what} directory ${directory} is inside ${mountpoint}, which the mount would hide.`);
  }
  const under = mountOf(table, path);
  if (under?.type === FILE_SYSTEM_TYPE) {
    throw new MountError(`The ${what} directory ${directory} is inside the tsfs mount ${under.mountPoint}.`);
  }
}

/** The real path of the directory, or of what of it exists, with the rest appended. */
async function realExisting(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (path === '/' || systemCode(error) !== 'ENOENT') {
      throw new MountError(`The directory ${path} cannot be used (${systemCode(error) ?? 'unknown reason'}).`);
    }
    return join(await realExisting(dirname(path)), basename(path));
  }
}

function mountOf(table: readonly MountEntry[], path: string): MountEntry | undefined {
  const candidates = table.filter((entry) => isWithin(path, entry.mountPoint));
  const longest = Math.max(...candidates.map((entry) => entry.mountPoint.length));
  return candidates.findLast((entry) => entry.mountPoint.length === longest);
}

function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory === '/' ? '/' : `${directory}/`);
}
