/**
 * Starting a process that outlives its parent, and hearing from it whether it came up: a guardian, whose first worker has a channel to this
 * process until it is ready.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import { EXIT, MountError } from './errors.ts';
import { type Guardian, guardianCommand, meetGuardian } from './guardian.ts';

type Report =
  | { readonly kind: 'ready' }
  | { readonly kind: 'failed'; readonly sentence: string; readonly exitCode: number };

export interface DaemonStart {
  /** Without a guardian. */
  readonly isAlone: boolean;
  /** Runs `serveWorker`. */
  readonly module: URL;
  /** Of the worker. */
  readonly arguments: readonly string[];
  readonly mountpoint: string;
  readonly viewMountpoint: string | undefined;
  readonly controlSocket: string;
  /** What the processes print outside of their logger (a crash of Node itself) is appended here. */
  readonly outputFile: string;
  readonly readyTimeoutMs: number;
  /** Aborts the start: the daemon is told to end. */
  readonly signal?: AbortSignal;
}

/** Time that a daemon has to clean up after SIGTERM before it is killed. */
const END_GRACE_MS = 5000;

/** Resolves once the daemon said that it is ready; rejects with its `MountError`. */
export async function startDaemon(start: DaemonStart): Promise<void> {
  const { program, argv } = guardianCommand({ ...start, mode: 'detached' });
  const [argv0 = program, ...args] = argv;
  const output = openSync(start.outputFile, 'a', 0o600);
  let child: ChildProcess;
  try {
    child = spawn(program, args, {
      argv0,
      // A new session: no terminal's Ctrl-C or hang-up reaches it.
      detached: true,
      cwd: '/',
      stdio: ['ignore', output, output, 'ipc'],
      serialization: 'advanced',
    });
  } finally {
    closeSync(output);
  }
  try {
    await readiness(child, start);
  } catch (error) {
    await end(child);
    await removeIfEmpty(start.outputFile);
    throw error;
  }
  if (child.connected) child.disconnect();
  child.unref();
}

async function removeIfEmpty(file: string): Promise<void> {
  const found = await stat(file).catch(() => undefined);
  if (found?.isFile() && found.size === 0) await rm(file, { force: true });
}

function readiness(child: ChildProcess, start: DaemonStart): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () =>
        reject(
          new MountError(`The mount was not ready after ${start.readyTimeoutMs / 1000} s; see ${start.outputFile}.`),
        ),
      start.readyTimeoutMs,
    );
    const abort = () => reject(new MountError('Interrupted.', EXIT.interrupted));
    start.signal?.addEventListener('abort', abort, { once: true });
    const done = (settle: () => void) => {
      clearTimeout(timer);
      start.signal?.removeEventListener('abort', abort);
      settle();
    };
    child.once('error', (error) => done(() => reject(error)));
    child.once('exit', () => {
      done(() => reject(new MountError(`The tsfs daemon ended before the mount was ready; see ${start.outputFile}.`)));
    });
    child.once('message', (message) => {
      const report = message as Report;
      done(() => (report.kind === 'ready' ? resolve() : reject(new MountError(report.sentence, report.exitCode))));
    });
    if (start.signal?.aborted) abort();
  });
}

function end(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    const { pid } = child;
    if (child.exitCode !== null || child.signalCode !== null || pid === undefined) return resolve();
    // Guardian and worker: the whole group that `detached` made.
    const killer = setTimeout(() => process.kill(-pid, 'SIGKILL'), END_GRACE_MS);
    child.once('exit', () => {
      clearTimeout(killer);
      resolve();
    });
    child.kill('SIGTERM');
  });
}

/**
 * The worker's side: meets its guardian, if it is not `alone`, runs, and exits with the result, or to be replaced (`swap`). A `MountError`
 * before `ready` goes to whoever waits for the mount; when that process goes away earlier, the worker ends with SIGTERM, as if by hand.
 */
export async function serveWorker(
  run: (guardian: Guardian, ready: () => void) => Promise<number | 'swap'>,
  alone?: Guardian,
): Promise<never> {
  let isReady = false;
  process.once('disconnect', () => {
    if (!isReady) process.kill(process.pid, 'SIGTERM');
  });
  try {
    const guardian = alone ?? meetGuardian();
    const result = await run(guardian, () => {
      isReady = true;
      guardian.ready();
      void report({ kind: 'ready' });
    });
    guardian.leave(result === 'swap' ? 'swap' : 'end');
    process.exit(result === 'swap' ? EXIT.ok : result);
  } catch (error) {
    if (!(error instanceof MountError)) console.error(error);
    const sentence = error instanceof MountError ? error.sentence : `The tsfs daemon failed: ${String(error)}`;
    const exitCode = error instanceof MountError ? error.exitCode : EXIT.failure;
    if (process.connected && !isReady) await report({ kind: 'failed', sentence, exitCode });
    else console.error(`tsfs: ${sentence}`);
    process.exit(exitCode);
  }
}

/** Resolves when the parent has it, or is gone. */
function report(message: Report): Promise<void> {
  return new Promise((resolve) => {
    if (!process.connected || process.send === undefined) return resolve();
    process.send(message, () => {
      process.disconnect();
      resolve();
    });
  });
}
