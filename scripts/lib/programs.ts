/** Running other programs without ever being held up by them: every one has a limit of time. */
import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface RunOptions {
  /** After this the program is killed and the call rejects. Default 30 s. */
  readonly limitMs?: number;
  readonly env?: NodeJS.ProcessEnv;
  /** Ends the program early. */
  readonly signal?: AbortSignal;
  /** In a session of its own, where a Ctrl-C at this terminal does not reach it. */
  readonly apart?: boolean;
}

export interface Finished {
  readonly stdout: string;
  readonly elapsedMs: number;
}

const DEFAULT_LIMIT_MS = 30_000;
/** A program in uninterruptible sleep survives SIGKILL for as long as its file system hangs. */
const KILL_GRACE_MS = 3_000;
const POLL_MS = 20;
const OUTPUT_TAIL_CHARACTERS = 2_000;

/** Resolves when the program ends with status 0; rejects with what it said otherwise. */
export async function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const limitMs = options.limitMs ?? DEFAULT_LIMIT_MS;
  const startMs = performance.now();
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: options.env ?? process.env,
    detached: options.apart ?? false,
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-OUTPUT_TAIL_CHARACTERS);
  });
  const limit = AbortSignal.timeout(limitMs);
  const end = await ending(child, options.signal === undefined ? limit : AbortSignal.any([limit, options.signal]));
  const elapsedMs = performance.now() - startMs;
  if (end === 0) return { stdout, elapsedMs };
  const reason = limit.aborted ? `took longer than ${limitMs / 1000} s` : `ended with ${end}`;
  throw new Error(`${program} ${args[0] ?? ''} ${reason}: ${stderr.trim() || stdout.slice(-OUTPUT_TAIL_CHARACTERS)}`);
}

/** Exit status, signal or error in words; kills the program when `signal` aborts. */
function ending(child: ChildProcess, signal: AbortSignal): Promise<number | string> {
  return new Promise((resolve) => {
    const kill = () => {
      child.kill('SIGKILL');
      setTimeout(() => resolve('SIGKILL'), KILL_GRACE_MS).unref();
    };
    if (signal.aborted) kill();
    signal.addEventListener('abort', kill, { once: true });
    const settle = (result: number | string) => {
      signal.removeEventListener('abort', kill);
      resolve(result);
    };
    child.once('error', (error) => settle(error.message));
    child.once('close', (code, killedBy) => settle(code ?? killedBy ?? 'no status'));
  });
}

/** A program that runs beside this one until it is stopped, or this one dies. A Ctrl-C at the terminal does not reach it. */
export class Background {
  static readonly #running = new Set<Background>();
  static {
    process.once('exit', () => {
      for (const one of Background.#running) one.#killGroup();
    });
  }

  readonly #child: ChildProcess;
  #output = '';

  constructor(program: string, args: readonly string[], env: NodeJS.ProcessEnv) {
    this.#child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env,
      detached: true,
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output = (this.#output + text).slice(-OUTPUT_TAIL_CHARACTERS);
      });
    }
    this.#child.on('error', (error) => {
      this.#output += error.message;
    });
    Background.#running.add(this);
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get hasEnded(): boolean {
    return this.#child.pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** The end of what it wrote. */
  get output(): string {
    return this.#output.trim();
  }

  /** The first line of its output. Rejects when it ends before, after the limit, and when the signal aborts. */
  async firstLine(limitMs: number, signal?: AbortSignal): Promise<string> {
    const deadlineMs = performance.now() + limitMs;
    while (!this.#output.includes('\n')) {
      signal?.throwIfAborted();
      if (this.hasEnded) throw new Error(`it ended at once: ${this.output}`);
      if (performance.now() > deadlineMs) throw new Error(`not ready within ${limitMs / 1000} s: ${this.output}`);
      await sleep(POLL_MS);
    }
    return this.#output.slice(0, this.#output.indexOf('\n'));
  }

  /** Asks with SIGTERM, insists with SIGKILL after `graceMs`; ends what it started and left behind. */
  async stop(graceMs = 5_000): Promise<void> {
    for (const [signal, waitMs] of [
      ['SIGTERM', graceMs],
      ['SIGKILL', KILL_GRACE_MS],
    ] as const) {
      if (this.hasEnded) break;
      const ended = new Promise((resolve) => this.#child.once('exit', resolve));
      this.#child.kill(signal);
      await Promise.race([ended, sleep(waitMs, undefined, { ref: false })]);
    }
    this.#killGroup();
    Background.#running.delete(this);
  }

  /** It leads a process group, as it is detached. */
  #killGroup(): void {
    if (this.#child.pid === undefined) return;
    try {
      process.kill(-this.#child.pid, 'SIGKILL');
    } catch (error) {
      // The usual case: nobody is left.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}

/** The path of a program, or undefined where it is not installed. */
export async function findProgram(name: string): Promise<string | undefined> {
  for (const directory of [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin']) {
    const path = join(directory, name);
    const isThere = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (directory !== '' && isThere) return path;
  }
  return undefined;
}
