/** What can be told before anything is started: whether this host can mount here, in one sentence when not. */
import { mkdir, readdir, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { FILE_SYSTEM_TYPE } from '../kernel/mount.ts';
import { findMount, type MountEntry, readMounts } from '../kernel/mount-table.ts';
import type { MountConfig } from './config.ts';
import { callControl, NoDaemonError } from './control.ts';
import { MountError, systemCode } from './errors.ts';

/**
 * The real path of a directory (given absolute). A mount of tsfs is not touched on the way: when its daemon is gone, every call
 * on it fails. Rejects with a `MountError` when it is no directory.
 */
export async function findMountpoint(path: string): Promise<string> {
  const mountpoint = await realName(path);
  const present = await findMount(mountpoint);
  return present?.type === FILE_SYSTEM_TYPE ? mountpoint : realDirectory(mountpoint);
}

/** The path with all symbolic links followed but the last. */
export async function realName(path: string): Promise<string> {
  try {
    return path === '/' ? path : join(await realpath(dirname(path)), basename(path));
  } catch (error) {
    throw new MountError(`The directory ${path} cannot be reached (${systemCode(error) ?? 'unknown reason'}).`);
  }
}

/** For a mount point where nothing of tsfs is mounted: rejects with a `MountError` when something else is. */
export async function checkFree(mountpoint: string): Promise<void> {
  if (mountpoint === '/') throw new MountError('A bucket cannot be mounted on /.');
  const present = await findMount(mountpoint);
  if (present === undefined) return;
  throw new MountError(`${mountpoint} is a mount point already: ${present.source} (${present.type}) is mounted there.`);
}

/** What a mount finds made: the state directory, and that of the log. */
export async function makeDirectories(config: MountConfig): Promise<void> {
  const logDirectory = config.log.file === undefined ? [] : [dirname(config.log.file)];
  for (const directory of [config.stateDirectory, ...logDirectory]) {
    await mkdir(directory, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
      throw new MountError(`The directory ${directory} cannot be made (${systemCode(error) ?? 'unknown reason'}).`);
    });
  }
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

/** Rejects with a `MountError` when cache or state would be where they cannot work. */
export async function checkPlaces(config: MountConfig): Promise<void> {
  checkView(config);
  const table = await readMounts();
  await checkPlace('cache', config.cache.directory, config.mountpoint, table);
  await checkPlace('state', config.stateDirectory, config.mountpoint, table);
  if (isWithin(config.stateDirectory, config.cache.directory)) {
    throw new MountError('The state directory must not be inside the cache, which may be emptied at any time.');
  }
}

/** Each hides what is below it, and the daemon must not wait for itself when it reaches for the other. */
function checkView({ mountpoint, viewMountpoint, kernel }: MountConfig): void {
  if (viewMountpoint === undefined) return;
  if (isWithin(viewMountpoint, mountpoint) || isWithin(mountpoint, viewMountpoint)) {
    throw new MountError(`The view ${viewMountpoint} and the mount point ${mountpoint} must not be inside each other.`);
  }
  if (kernel.driver === 'portable') throw new MountError('A view (ro_view) needs the native driver.');
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
