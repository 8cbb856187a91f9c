/** What a worker is to do, as the command line left it in the state directory. */
import { copyFile, readdir, readFile, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { MountConfig } from './config.ts';
import { EXIT, MountError, systemCode } from './errors.ts';

/** Plain data: each worker of a mount reads it from a file. */
export interface MountJob {
  readonly config: MountConfig;
  /** What the user should know but need not act on, e.g. options that are ignored: one line of the log each. */
  readonly notices: readonly string[];
  /**
   * The values of the options that were given, by name, for a command that changes some of them. undefined: written by a version that did not
   * note them.
   */
  readonly options?: Readonly<Record<string, unknown>> | undefined;
}

/**
 * Returns the path. Whole or not at all: a worker may be starting. The same job as last time needs no room on the disk, which may be full. Rejects with
 * a MountError when it cannot be written.
 */
export async function writeJob(job: MountJob): Promise<string> {
  const path = jobPath(job.config.stateDirectory);
  try {
    await rm(beforePath(path), { force: true });
    const written = await readFile(path, 'utf8').catch(() => undefined);
    if (written !== JSON.stringify(job)) await replace(path, job);
  } catch (error) {
    throw new MountError(`${path} cannot be written (${systemCode(error) ?? 'unknown reason'}).`, EXIT.failure, error);
  }
  return path;
}

/** Of a mount that did not come about: nothing of it stays, unless the state directory holds more than the job. */
export async function withdrawJob({ config: { stateDirectory } }: MountJob): Promise<void> {
  const path = jobPath(stateDirectory);
  const others = (await readdir(stateDirectory)).filter((name) => name !== basename(path));
  if (others.length > 0) return;
  await rm(path, { force: true });
  await rmdir(stateDirectory);
}

export function jobPath(stateDirectory: string): string {
  return join(stateDirectory, 'mount.json');
}

export async function readJob(path: string): Promise<MountJob> {
  return JSON.parse(await readFile(path, 'utf8')) as MountJob;
}

/** For the next worker, on trial: until `settleJob`, `takeBackJob` brings back the job that was there. */
export async function tryJob(job: MountJob): Promise<void> {
  const path = jobPath(job.config.stateDirectory);
  await copyFile(path, `${path}.copy`);
  await rename(`${path}.copy`, beforePath(path));
  await replace(path, job);
}

/** A worker serves with it. */
export async function settleJob(path: string): Promise<void> {
  await rm(beforePath(path), { force: true });
}

/** Returns false when the job is not on trial. */
export async function takeBackJob(path: string): Promise<boolean> {
  try {
    await rename(beforePath(path), path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}

function beforePath(path: string): string {
  return `${path}.before`;
}

async function replace(path: string, job: MountJob): Promise<void> {
  await writeFile(`${path}.new`, JSON.stringify(job), { mode: 0o600 });
  await rename(`${path}.new`, path);
}
