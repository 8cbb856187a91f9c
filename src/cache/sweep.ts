/** Finds and removes files that the index knows nothing of: left by a crash, or by an index that was lost. */
import { opendir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ContentId } from '../base/ids.ts';
import { errorCode } from './files.ts';

const DIRECTORY_NAME = /^[0-9a-f]{2}$/;
const FILE_NAME = /^[1-9][0-9]{0,15}$/;
/** Between two directories (of at most a few hundred files): a full cache is looked through within minutes, unnoticed. */
const PAUSE_MS = 10;

export interface SweepOptions {
  readonly directory: string;
  readonly isKnown: (id: ContentId) => boolean;
  readonly signal: AbortSignal;
}

/** Resolves with the number of files removed. Files with foreign names are left alone. */
export async function sweep(options: SweepOptions): Promise<number> {
  let removed = 0;
  for await (const path of strayFiles(options)) {
    await rm(path, { force: true });
    removed += 1;
  }
  return removed;
}

/** Files with names like those of contents, which are known to nobody. Ends early when the signal is given. */
export async function* strayFiles({ directory, isKnown, signal }: SweepOptions): AsyncGenerator<string> {
  for await (const first of names(directory, DIRECTORY_NAME)) {
    for await (const second of names(join(directory, first), DIRECTORY_NAME)) {
      if (signal.aborted) return;
      const leaf = join(directory, first, second);
      for await (const name of names(leaf, FILE_NAME)) {
        if (!isKnown(Number(name) as ContentId)) yield join(leaf, name);
      }
      await delay(PAUSE_MS, undefined, { ref: false });
    }
  }
}

async function* names(directory: string, pattern: RegExp): AsyncGenerator<string> {
  try {
    for await (const entry of await opendir(directory)) if (pattern.test(entry.name)) yield entry.name;
  } catch (error) {
    if (errorCode(error) !== 'ENOENT' && errorCode(error) !== 'ENOTDIR') throw error;
  }
}
