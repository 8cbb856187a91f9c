import { Worker } from 'node:worker_threads';
import { StoreError } from '../store/contract.ts';
import type { DigestAnswer, DigestRange, DigestRequest } from './digest-worker.ts';

/** The compiled program has .js files, a checkout run by type stripping has .ts files. */
const EXTENSION = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
/** A thread costs some megabytes, and a tenth of a second to start. */
const IDLE_MS = 5000;

/** Ranges that are hashed together at most, as many as have a lane each. */
export const TOGETHER_MAX = 8;

export type FileRange = Omit<DigestRange, 'memory'>;

interface Waiter {
  readonly resolve: (md5Hexes: readonly string[]) => void;
  readonly reject: (error: Error) => void;
}

/**
 * MD5s of files, in a thread of their own: a gigabyte takes a second and a half, in which the JavaScript thread could answer nobody. The
 * thread is started when it is needed, and ends when it was not for a while. Descriptors must stay open until the call has settled.
 */
export class Digester {
  readonly #onRest: () => void;
  readonly #waiters = new Map<number, Waiter>();
  #worker: Worker | undefined;
  #lastId = 0;
  #idle: NodeJS.Timeout | undefined;

  /** `onRest`: called when the thread is ended because nobody needed it. */
  constructor(onRest: () => void = () => undefined) {
    this.#onRest = onRest;
  }

  /**
   * Hex, in the order of the ranges, which are hashed together: five take little longer than one. With `memory`, which must have room for them,
   * the bytes of a range are in it afterwards. Rejects with an `InvalidRequest` error when the file ends before a range does, and with
   * errors of read(2).
   */
  digest(ranges: readonly DigestRange[]): Promise<readonly string[]> {
    clearTimeout(this.#idle);
    this.#worker ??= this.#start();
    const worker = this.#worker;
    // The process does not end while somebody waits.
    worker.ref();
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiters.set(id, { resolve, reject });
      const request: DigestRequest = { id, ranges };
      worker.postMessage(request);
    });
  }

  #start(): Worker {
    const worker = new Worker(new URL(`./digest-worker.${EXTENSION}`, import.meta.url), {
      name: 'digests',
      // Flags of the main program (loaders, inspectors) are not for this thread.
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 2 },
    });
    worker.on('message', (answer: DigestAnswer) => this.#settle(answer));
    worker.on('error', (error) => this.#fail(worker, error));
    return worker;
  }

  #settle(answer: DigestAnswer): void {
    const waiter = this.#waiters.get(answer.id);
    this.#waiters.delete(answer.id);
    if (this.#waiters.size === 0) {
      this.#worker?.unref();
      this.#idle = setTimeout(() => this.#stop(), IDLE_MS).unref();
    }
    if ('md5Hexes' in answer) waiter?.resolve(answer.md5Hexes);
    else waiter?.reject(toError(answer));
  }

  /** The thread is gone, which should not happen; the next call starts another one. */
  #fail(worker: Worker, error: Error): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    for (const { reject } of this.#waiters.values()) reject(error);
    this.#waiters.clear();
  }

  #stop(): void {
    const worker = this.#worker;
    this.#worker = undefined;
    void worker?.terminate();
    this.#onRest();
  }
}

function toError(answer: Exclude<DigestAnswer, { md5Hexes: readonly string[] }>): Error {
  if ('isTooShort' in answer) return fileTooShort();
  return Object.assign(new Error(answer.error), { code: answer.code });
}

export function fileTooShort(): StoreError {
  return new StoreError('InvalidRequest', 'the file became shorter while it was uploaded');
}
