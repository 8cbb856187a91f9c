/** `tsfs mount BUCKET[:/PREFIX] DIR -o …` */
import { resolve } from 'node:path';
import type { MountConfig } from '../mount/config.ts';
import { isServed, prepareControl } from '../mount/control.ts';
import { startDaemon } from '../mount/daemonize.ts';
import { EXIT, MountError } from '../mount/errors.ts';
import { guardianCommand } from '../mount/guardian.ts';
import { type MountJob, writeJob } from '../mount/job.ts';
import { checkFree, checkPlaces, findMountpoint, isEmpty, makeDirectories, presentMount } from '../mount/preflight.ts';
import type { Host } from './host.ts';
import { parseOptions, type RawOption } from './parse-options.ts';
import { resolveConfig } from './resolve.ts';
import { parseSource } from './source.ts';
import type { Terminal } from './terminal.ts';

export interface MountArguments {
  /** BUCKET and DIR; only DIR where an option names the bucket. */
  readonly words: readonly string[];
  readonly options: readonly RawOption[];
  readonly foreground: boolean;
}

const READY_TIMEOUT_MS = 120_000;
/** How long an earlier mount of the same directory may take to finish its uploads. */
const FINISH_TIMEOUT_MS = 30_000;
const POLL_MS = 200;

export async function mountCommand(args: MountArguments, user: Host, terminal: Terminal): Promise<number> {
  const { values, notices } = parseOptions(args.options, process.cwd());
  const words = values.bucket === undefined ? args.words : [values.bucket, ...args.words];
  const [bucket, directory] = words;
  if (bucket === undefined || directory === undefined || words.length > 2) {
    throw new MountError('A mount takes a bucket and a directory: tsfs mount BUCKET[:/PREFIX] DIR.', EXIT.usage);
  }
  const mountpoint = await findMountpoint(resolve(directory));
  const config = await resolveConfig(parseSource(bucket), mountpoint, values, {
    ...user,
    foreground: args.foreground,
  });
  if (await isMountedAlready(config)) {
    terminal.note(`${config.source} is mounted on ${mountpoint} already.`);
    return EXIT.ok;
  }
  await checkPlaces(config);
  await makeDirectories(config);
  await prepareControl(config.controlSocket);
  const job: MountJob = { config, notices, options: values };
  return args.foreground ? runHere(job) : runBehind(job);

  /** Resolves with false when the way is free. */
  async function isMountedAlready(wanted: MountConfig): Promise<boolean> {
    const present = await presentMount(wanted);
    if (present === 'alive') return true;
    if (present === 'finishing') await waitForEnd(wanted, terminal);
    // A dead mount is taken away by the new one.
    if (present !== 'dead') await checkFree(wanted.mountpoint);
    if (present !== 'dead' && !values.nonempty && !(await isEmpty(wanted.mountpoint))) {
      terminal.note(`${wanted.mountpoint} is not empty: what it holds is hidden while the bucket is mounted.`);
    }
    return false;
  }
}

async function waitForEnd(config: MountConfig, terminal: Terminal): Promise<void> {
  terminal.note(`The last mount of ${config.mountpoint} is still uploading: waiting for it.`);
  for (let waitedMs = 0; await isServed(config.controlSocket); waitedMs += POLL_MS) {
    if (waitedMs >= FINISH_TIMEOUT_MS) {
      throw new MountError(
        `The last mount of ${config.mountpoint} is still uploading; see: tsfs status ${config.mountpoint}`,
      );
    }
    await new Promise((resume) => setTimeout(resume, POLL_MS));
  }
}

/** The connection of the portable driver is inside libfuse: it ends with its worker. */
function workerOf(job: MountJob): { isAlone: boolean; module: URL } {
  const isAlone = job.config.kernel.driver === 'portable';
  // From source or compiled: the entry point has this module's extension.
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  return { isAlone, module: new URL(`../mount/${isAlone ? 'lone-worker' : 'worker'}.${extension}`, import.meta.url) };
}

/** This process becomes the guardian, or the worker alone: the same pid, terminal and signals. */
async function runHere(job: MountJob): Promise<number> {
  const { mountpoint, viewMountpoint, controlSocket, source } = job.config;
  const words = [await writeJob(job), source, mountpoint];
  const places = { mountpoint, viewMountpoint, controlSocket };
  const { program, argv } = guardianCommand({ ...workerOf(job), ...places, mode: 'attached', arguments: words });
  if (process.execve === undefined) throw new MountError('This version of Node cannot run in the foreground.');
  return process.execve(program, argv, process.env);
}

async function runBehind(job: MountJob): Promise<number> {
  const { config } = job;
  const interrupted = new AbortController();
  const interrupt = () => interrupted.abort();
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  await startDaemon({
    ...workerOf(job),
    arguments: [await writeJob(job), config.source, config.mountpoint],
    mountpoint: config.mountpoint,
    viewMountpoint: config.viewMountpoint,
    controlSocket: config.controlSocket,
    outputFile: config.log.file ?? '/dev/null',
    readyTimeoutMs: READY_TIMEOUT_MS,
    signal: interrupted.signal,
  });
  return EXIT.ok;
}
