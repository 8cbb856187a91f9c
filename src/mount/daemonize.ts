/**
 * Starting a process that outlives its parent, and hearing from it whether it came up. What the daemon is to do goes through the
 * pipe between them, not through argv.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { EXIT, MountError } from './errors.ts';

type Report =
  | { readonly kind: 'ready' }
  | { readonly kind: 'failed'; readonly sentence: string; readonly exitCode: number };

export interface DaemonStart {
  /** Runs `serveDaemon`. */
  readonly module: URL;
  /** Only for readers of `ps`. */
  readonly labels: readonly string[];
  /** Structured-clonable. */
  readonly job: unknown;
  /** What the process prints outside of its logger (a crash of Node itself) is appended here. */
  readonly outputFile: string;
  readonly readyTimeoutMs: number;
  /** Aborts the start: the daemon is told to end. */
  readonly signal?: AbortSignal;
}

/** Time that a daemon has to clean up after SIGTERM before it is killed. */
const END_GRACE_MS = 5000;

/** Resolves once the daemon said that it is ready; rejects with its `MountError`. */
export async function startDaemon(start: DaemonStart): Promise<void> {
  const output = openSync(start.outputFile, 'a', 0o600);
  let child: ChildProcess;
  try {
    child = fork(start.module, start.labels, {
      // A new session: no terminal's Ctrl-C or hang-up reaches it.
      detached: true,
      cwd: '/',
      stdio: ['ignore', output, output, 'ipc'],
      serialization: 'advanced',
      execArgv: [],
    });
  } finally {
    closeSync(output);
  }
  try {
    await readiness(child, start);
  } catch (error) {
    await end(child);
    throw error;
  }
  child.disconnect();
  child.unref();
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
    child.send(start.job as object, (error) => {
      if (error !== null) done(() => reject(error));
    });
    if (start.signal?.aborted) abort();
  });
}

function end(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return resolve();
    const killer = setTimeout(() => child.kill('SIGKILL'), END_GRACE_MS);
    child.once('exit', () => {
      clearTimeout(killer);
      resolve();
    });
    child.kill('SIGTERM');
  });
}

/**
 * The daemon's side: takes the job from the parent, runs it, and exits with its result. A `MountError` before `ready` goes to the
 * parent; a parent that goes away before that ends the daemon with SIGTERM, as if by hand.
 */
export function serveDaemon(run: (job: unknown, ready: () => void) => Promise<number>): void {
  let isReady = false;
  process.once('disconnect', () => {
    if (!isReady) process.kill(process.pid, 'SIGTERM');
  });
  process.once('message', async (job) => {
    try {
      const exitCode = await run(job, () => {
        isReady = true;
        void report({ kind: 'ready' });
      });
      process.exit(exitCode);
    } catch (error) {
      if (!(error instanceof MountError)) console.error(error);
      const sentence = error instanceof MountError ? error.sentence : `The tsfs daemon failed: ${String(error)}`;
      const exitCode = error instanceof MountError ? error.exitCode : EXIT.failure;
      if (!isReady) await report({ kind: 'failed', sentence, exitCode });
      process.exit(exitCode);
    }
  });
}

/** Resolves when the parent has it, or is gone. */
function report(message: Report): Promise<void> {
  return new Promise((resolve) => {
    if (!process.connected || process.send === undefined) return resolve();
    process.send(message, () => resolve());
  });
}
