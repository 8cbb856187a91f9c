/** What may go wrong between a client and its object store. */
import { Transform } from 'node:stream';
import type { S3Operation, S3Request } from './s3-operation.ts';

export type Effect =
  /** Answered by the proxy with an S3 error; the store never sees the request. */
  | {
      readonly type: 'status';
      readonly status: number;
      readonly code: string;
      readonly headers?: Readonly<Record<string, string>>;
    }
  /** Answered by the proxy with 200 and an error in the body. */
  | { readonly type: 'errorIn200'; readonly code: string }
  /** Answered by the proxy with these bytes. */
  | {
      readonly type: 'answer';
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string;
    }
  /** Passed on after so long. */
  | { readonly type: 'slow'; readonly latencyMs: number }
  /** The connection is reset before the store sees the request. */
  | { readonly type: 'reset' }
  /** The store does what it was asked, and the connection is reset instead of the answer. */
  | { readonly type: 'loseAnswer' }
  /** The connection ends within the body of the answer. */
  | { readonly type: 'truncate'; readonly afterBytes: number }
  /** One bit of the body is flipped: of the request where it has one, else of the answer if that is no longer than so many bytes. */
  | { readonly type: 'corrupt'; readonly upToBytes?: number }
  /** The answer stops after so many bytes of its body; absent: nothing is answered at all. */
  | { readonly type: 'stall'; readonly afterBytes?: number };

export interface Fault {
  readonly effect: Effect;
  /** Which requests; absent: all. */
  readonly operations?: readonly S3Operation[];
  readonly key?: string | RegExp;
  /** In (0, 1]; absent: each of those requests. */
  readonly probability?: number;
  /** Ends after so many times; absent: never. */
  readonly times?: number;
}

/** Faults in force, and a random sequence that is the same in every run. */
export class FaultPlan {
  readonly #faults = new Map<Fault, { left: number }>();
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  add(fault: Fault): () => void {
    this.#faults.set(fault, { left: fault.times ?? Number.POSITIVE_INFINITY });
    return () => {
      this.#faults.delete(fault);
    };
  }

  clear(): void {
    this.#faults.clear();
  }

  /** The effect on this request, if any: of the first fault that applies. */
  next({ operation, key }: S3Request): Effect | undefined {
    for (const [fault, remaining] of this.#faults) {
      if (fault.operations !== undefined && !fault.operations.includes(operation)) continue;
      if (typeof fault.key === 'string' && fault.key !== key) continue;
      if (fault.key instanceof RegExp && !fault.key.test(key)) continue;
      if (this.#random() >= (fault.probability ?? 1)) continue;
      remaining.left -= 1;
      if (remaining.left <= 0) this.#faults.delete(fault);
      return fault.effect;
    }
    return undefined;
  }

  /** Mulberry32: small, seeded, good enough. */
  #random(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
}

export function errorXml(code: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>fault</Message></Error>`;
}

/** Flips the lowest bit of the first byte. */
export function flipBit(): Transform {
  let isDone = false;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      if (isDone || chunk.length === 0) return done(null, chunk);
      isDone = true;
      const damaged = Buffer.from(chunk);
      damaged[0] = (damaged[0] ?? 0) ^ 1;
      done(null, damaged);
    },
  });
}

/** Passes so many bytes on, then calls `then` once and swallows the rest. */
export function cutAfter(sizeBytes: number, then: () => void): Transform {
  let left = sizeBytes;
  let isCut = false;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const passed = chunk.subarray(0, left);
      left -= passed.length;
      if (left === 0 && !isCut) {
        isCut = true;
        // After the bytes before the cut are on their way.
        setTimeout(then, 5);
      }
      done(null, passed.length === 0 ? null : passed);
    },
    flush(done) {
      if (!isCut) done();
    },
  });
}
