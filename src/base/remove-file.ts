import { unlink } from 'node:fs/promises';

/** One file, which may be gone already. Unlike rm(3) of Node, without looking at it first on the JavaScript thread. */
export async function removeFile(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
