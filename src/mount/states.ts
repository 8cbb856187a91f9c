/** Finds what a mount has left, by what it mounted or where: each keeps its job file in its state directory. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { MountConfig } from './config.ts';
import { MountError, systemCode } from './errors.ts';
import { jobPath, type MountJob, readJob } from './job.ts';

/** The configuration of the last mount in the state directory. Rejects with a MountError when there was none. */
export async function stateOf(stateDirectory: string): Promise<MountConfig> {
  const job = await jobIn(stateDirectory);
  if (job === undefined) throw new MountError(`${stateDirectory} is not the state directory of a mount.`);
  return { ...job.config, stateDirectory };
}

/** All states below `base` that `isWanted`. */
export async function findStates(base: string, isWanted: (config: MountConfig) => boolean): Promise<MountConfig[]> {
  const names = await readdir(base).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return [];
    throw new MountError(`The directory ${base} cannot be read (${systemCode(error) ?? 'unknown reason'}).`);
  });
  const found: MountConfig[] = [];
  for (const name of names) {
    const stateDirectory = join(base, name);
    const job = await jobIn(stateDirectory);
    if (job !== undefined && isWanted(job.config)) found.push({ ...job.config, stateDirectory });
  }
  return found;
}

async function jobIn(stateDirectory: string): Promise<MountJob | undefined> {
  try {
    return await readJob(jobPath(stateDirectory));
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return undefined;
    const reason = systemCode(error) ?? 'it is damaged';
    throw new MountError(`The file ${jobPath(stateDirectory)} cannot be read (${reason}).`);
  }
}
