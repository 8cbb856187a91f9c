/** Removes files that the index knows nothing of: left by a crash, or by an index that was lost. */
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
  for await (const first of names(options.directory, DIRECTORY_NAME)) {
    for await (const second of names(join(options.directory, first), DIRECTORY_NAME)) {
      if (options.signal.aborted) return removed;
      removed += await sweepLeaf(join(options.directory, first, second), options);
      await delay(PAUSE_MS, undefined, { ref: false });
    }
  }
  return removed;
}

async function sweepLeaf(directory: string, options: SweepOptions): Promise<number> {
  let removed = 0;
  for await (const name of names(directory, FILE_NAME)) {
    if (options.isKnown(Number(name) as ContentId)) continue;
    await rm(join(directory, name), { force: true });
    removed += 1;
  }
  return removed;
}

async function* names(directory: string, pattern: RegExp): AsyncGenerator<string> {
  try {
    for await (const entry of await opendir(directory)) if (pattern.test(entry.name)) yield entry.name;
  } catch (error) {
    if (errorCode(error) !== 'ENOENT' && errorCode(error) !== 'ENOTDIR') throw error;
  }
}
