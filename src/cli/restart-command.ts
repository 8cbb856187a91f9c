/**
 * `tsfs restart DIR [-o …]`: another worker, of the version that is installed now, goes on with the mount, with other options where some are
 * given. No call on it fails.
 */
import { isDeepStrictEqual } from 'node:util';
import { findMount } from '../kernel/mount-table.ts';
import type { MountConfig } from '../mount/config.ts';
import { askControl, callControl } from '../mount/control.ts';
import { controlSocketPath, runDirectory } from '../mount/directories.ts';
import { EXIT, MountError } from '../mount/errors.ts';
import { foreignGuardian, PROTOCOL } from '../mount/guardian.ts';
import { jobPath, readJob } from '../mount/job.ts';
import { findMountpoint } from '../mount/preflight.ts';
import type { MountStatus } from '../mount/status.ts';
import type { Host } from './host.ts';
import { parseOptions, type RawOption } from './parse-options.ts';
import { changedJob } from './reconfigure.ts';
import type { Terminal } from './terminal.ts';

export interface RestartArguments {
  readonly directory: string;
  readonly options: readonly RawOption[];
}

export async function restartCommand(
  { directory, options }: RestartArguments,
  user: Host,
  terminal: Terminal,
): Promise<number> {
  const { values, notices } = parseOptions(options, process.cwd());
  const mountpoint = await findMountpoint(directory);
  const ownerUid = (await findMount(mountpoint))?.ownerUid ?? user.uid;
  const socket = controlSocketPath(runDirectory(ownerUid), mountpoint);
  const { guardian, stateDirectory } = (await askControl(socket, 'status')) as MountStatus;
  const { protocol = PROTOCOL } = guardian;
  if (protocol !== PROTOCOL) throw new MountError(foreignGuardian(protocol));
  for (const notice of notices) terminal.note(notice);
  if (options.length === 0) {
    await callControl(socket, 'swap');
    await tellSuccessor(socket, mountpoint, terminal);
    return EXIT.ok;
  }
  const path = jobPath(stateDirectory);
  const job = await changedJob(await readJob(path), values, user);
  await callControl(socket, 'reconfigure', job);
  await tellSuccessor(socket, mountpoint, terminal);
  await expectKept(path, job.config);
  return EXIT.ok;
}

async function tellSuccessor(socket: string, mountpoint: string, terminal: Terminal): Promise<void> {
  const { source, pid, version } = (await askControl(socket, 'status')) as MountStatus;
  terminal.note(`${source} on ${mountpoint} is served by pid ${pid} now, tsfs ${version}.`);
}

/** A worker that could not start with them has been replaced by one with the options before. */
async function expectKept(path: string, wanted: MountConfig): Promise<void> {
  const { config } = await readJob(path);
  if (isDeepStrictEqual(config, wanted)) return;
  const log = config.log.file === undefined ? 'its log says why' : `${config.log.file} says why`;
  throw new MountError(`The new options were taken back, as no worker could start with them; ${log}.`);
}
