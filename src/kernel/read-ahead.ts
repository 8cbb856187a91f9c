/**
 * How far the kernel reads ahead of whoever reads a file. It begins with 128 KiB on every FUSE mount, and INIT can only lower that; `backing
 * device info` in sysfs raises it.
 */
import { writeFile } from 'node:fs/promises';
import type { Logger } from '../base/log.ts';
import { findMount } from './mount-table.ts';
import { MAX_TRANSFER_BYTES } from './protocol.ts';

const KIB = 1024;

/** Lets the kernel ask for as much at once as it may. Root only; without it large files are read in more and smaller requests. */
export async function raiseReadAhead(mountPoint: string, log: Logger): Promise<void> {
  try {
    const mount = await findMount(mountPoint);
    // Devices of file systems without a disk have the major number 0.
    if (mount === undefined) return;
    await writeFile(`/sys/class/bdi/0:${mount.deviceMinor}/read_ahead_kb`, `${MAX_TRANSFER_BYTES / KIB}\n`);
  } catch (error) {
    log.debug({ error: String(error), mountPoint }, 'the kernel reads ahead as much as it does by default');
  }
}
