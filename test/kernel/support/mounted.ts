/**
 * The toy file system on the real kernel, served by a process of its own: the test process may touch the mount without
 * waiting for itself. Whatever happens, `close` leaves nothing mounted and nothing running.
 */
import { type ChildProcess, execFile, fork, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { abortMount, type MountOptions } from '../../../src/kernel/mount.ts';
import { findMount } from '../../../src/kernel/mount-table.ts';
import type { SessionStatus } from '../../../src/kernel/session.ts';
import { daemonEnvironment } from '../../support/daemon-environment.ts';
import type { DaemonOptions, Question } from './toy-daemon.ts';
import type { ToyOptions } from './toy-fs.ts';

const DAEMON = fileURLToPath(new URL('toy-daemon.ts', import.meta.url));
const COMMAND_LIMIT_MS = 20_000;
const ANSWER_LIMIT_MS = 10_000;

export interface ToyStatus extends SessionStatus {
  readonly calls: Readonly<Record<string, number>>;
  readonly destroyed: number;
  readonly aborted: number;
  readonly lookups: number;
}

export interface Setup {
  readonly toy?: Partial<ToyOptions>;
  readonly mount?: Partial<MountOptions>;
  readonly passthrough?: boolean;
  readonly withoutOpens?: boolean;
}

export interface Outcome {
  /** Exit status, or the signal that ended the command. */
  readonly status: number | string;
  readonly output: string;
}

interface Ended {
  readonly ended: string;
  readonly destroyed: number;
}

type FromDaemon = { ready: true } | { failed: string } | Ended | { id: number; result?: unknown; error?: string };

function withLimit<T>(promise: Promise<T>, what: string): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`${what}: no answer`)), ANSWER_LIMIT_MS);
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export class ToyMount {
  readonly path: string;
  readonly ended: Promise<Ended>;
  readonly #root: string;
  readonly #daemon: ChildProcess;
  readonly #answers = new Map<number, PromiseWithResolvers<unknown>>();
  #nextId = 1;

  static async start(setup: Setup = {}): Promise<ToyMount> {
    const root = mkdtempSync(join(tmpdir(), 'tsfs-kernel-'));
    const mountPoint = join(root, 'mount point');
    mkdirSync(mountPoint);
    const started = Promise.withResolvers<void>();
    const toyMount = new ToyMount(root, mountPoint, setup, started);
    try {
      await withLimit(started.promise, 'mounting');
    } catch (error) {
      await toyMount.close();
      throw error;
    }
    return toyMount;
  }

  private constructor(root: string, mountPoint: string, setup: Setup, started: PromiseWithResolvers<void>) {
    this.#root = root;
    this.path = mountPoint;
    const ended = Promise.withResolvers<Ended>();
    this.ended = ended.promise;
    const flags = { readOnly: false, allowOther: true, defaultPermissions: true, noExec: false, noAtime: false };
    const options: DaemonOptions = {
      scratch: root,
      mount: { source: 'toy', mountPoint, ...flags, ...setup.mount },
      toy: { backing: false, bytes: false, slow: false, keepCache: true, ttlMs: 60_000, ...setup.toy },
      passthrough: setup.passthrough ?? true,
      withoutOpens: setup.withoutOpens ?? false,
    };
    this.#daemon = fork(DAEMON, [JSON.stringify(options)], {
      execArgv: [],
      env: { ...process.env, ...daemonEnvironment() },
    });
    this.#daemon.on('message', (message: FromDaemon) => {
      if ('ready' in message) started.resolve();
      else if ('failed' in message) started.reject(new Error(message.failed));
      else if ('ended' in message) ended.resolve(message);
      else this.#onAnswer(message);
    });
    this.#daemon.on('exit', (code, signal) => started.reject(new Error(`the daemon ended: ${signal ?? code}`)));
  }

  get pid(): number {
    return this.#daemon.pid ?? 0;
  }

  status(): Promise<ToyStatus> {
    return this.ask({ ask: 'status' }) as Promise<ToyStatus>;
  }

  ask(question: Question): Promise<unknown> {
    const id = this.#nextId++;
    const answer = Promise.withResolvers<unknown>();
    this.#answers.set(id, answer);
    this.#daemon.send({ id, question });
    return withLimit(answer.promise, question.ask);
  }

  /** Runs a shell command in the mount, with a hard limit. */
  run(command: string): Promise<Outcome> {
    const { promise, resolve } = Promise.withResolvers<Outcome>();
    const options = { cwd: this.path, timeout: COMMAND_LIMIT_MS, killSignal: 'SIGKILL' as const };
    execFile('/bin/bash', ['-c', command], options, (error, stdout, stderr) => {
      resolve({
        status: error === null ? 0 : (error.signal ?? error.code ?? 'unknown'),
        output: (stdout + stderr).trim(),
      });
    });
    return promise;
  }

  /** What a command says that must succeed. */
  async output(command: string): Promise<string> {
    const { status, output } = await this.run(command);
    if (status !== 0) throw new Error(`${command}: ${status}: ${output}`);
    return output;
  }

  /** A process in the mount that goes on; ended by `close` at the latest. */
  background(program: string, args: readonly string[]): ChildProcess {
    return spawn(program, args, { cwd: this.path, stdio: ['pipe', 'pipe', 'ignore'], timeout: COMMAND_LIMIT_MS });
  }

  async close(): Promise<void> {
    const gone = this.#daemon.exitCode !== null || this.#daemon.signalCode !== null;
    const exit = gone ? Promise.resolve() : new Promise<void>((resolve) => this.#daemon.once('exit', () => resolve()));
    // Without its parent the daemon unmounts and ends.
    if (this.#daemon.connected) this.#daemon.disconnect();
    try {
      await withLimit(exit, 'ending the daemon');
    } finally {
      this.#daemon.kill('SIGKILL');
      // Whoever still waits for the connection gets an error.
      if (await findMount(this.path)) await withLimit(abortMount(this.path), 'ending the mount');
    }
    rmSync(this.#root, { recursive: true });
  }

  #onAnswer({ id, result, error }: { id: number; result?: unknown; error?: string }): void {
    const answer = this.#answers.get(id);
    this.#answers.delete(id);
    if (error === undefined) answer?.resolve(result);
    else answer?.reject(new Error(error));
  }
}
