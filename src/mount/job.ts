/** What a worker is to do, as the command line left it in the state directory. */
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { MountConfig } from './config.ts';

/** Plain data: each worker of a mount reads it from a file. */
export interface MountJob {
  readonly config: MountConfig;
  /** What the user should know but need not act on, e.g. options that are ignored: one line of the log each. */
  readonly notices: readonly string[];
}

/** Returns the path. Whole or not at all: a worker may be starting. */
export async function writeJob(job: MountJob): Promise<string> {
  const path = jobPath(job.config.stateDirectory);
  await writeFile(`${path}.new`, JSON.stringify(job), { mode: 0o600 });
  await rename(`${path}.new`, path);
  return path;
}

export function jobPath(stateDirectory: string): string {
  return join(stateDirectory, 'mount.json');
}

export async function readJob(path: string): Promise<MountJob> {
  return JSON.parse(await readFile(path, 'utf8')) as MountJob;
}
