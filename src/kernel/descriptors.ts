import { readdir, readFile } from 'node:fs/promises';
import { Semaphore } from '../base/semaphore.ts';

/**
 * `/proc/PID/maps` waits while a thread of that process changes its mappings, which may wait for a page fault on this very mount. So these
 * reads never take all four threads of libuv's pool: the others go on serving the fault.
 */
const mapReaders = new Semaphore(2);

/** A process with more descriptors than this is not looked through. */
const MAX_DESCRIPTORS = 512;

/**
 * Whether the process has a descriptor open on a file with this inode number (of any file system: numbers of 63 random bits do not meet by
 * chance). FUSE_FLUSH tells of each close(2), but not whether it was the last one. Reads /proc/PID/fdinfo, which has `ino` since Linux 5.14;
 * false where it cannot be read.
 */
export async function holdsDescriptor(pid: number, ino: bigint): Promise<boolean> {
  const directory = `/proc/${pid}/fdinfo`;
  const wanted = new RegExp(`^ino:\\s*${ino}$`, 'm');
  try {
    const descriptors = await readdir(directory);
    if (descriptors.length > MAX_DESCRIPTORS) return false;
    const texts = await Promise.all(
      descriptors.map((name) => readFile(`${directory}/${name}`, 'utf8').catch(() => '')),
    );
    return texts.some((text) => wanted.test(text));
  } catch {
    // The process ended, is in another pid namespace (pid 0), or is none of ours to look at.
    return false;
  }
}

/**
 * Whether the process has the file with this inode number mapped shared and writable. Reads /proc/PID/maps, which shows the number of the
 * FUSE file also where passthrough mapped its backing file; false where it cannot be read.
 */
export async function mapsFile(pid: number, ino: bigint): Promise<boolean> {
  try {
    const maps = await mapReaders.run(() => readFile(`/proc/${pid}/maps`, 'utf8'));
    return new RegExp(`^\\S+ .w.s \\S+ \\S+ ${ino}\\b`, 'm').test(maps);
  } catch {
    // The process ended, is in another pid namespace, or is none of ours to look at.
    return false;
  }
}
