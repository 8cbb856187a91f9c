import { createHash } from 'node:crypto';
import { setTimeout as sleepFor } from 'node:timers/promises';
import { type Clock, systemClock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import {
  type BodySource,
  type Cancelable,
  type DeleteFailure,
  isStoreError,
  type ObjectStore,
  type PutResult,
  StoreError,
  type StoreErrorKind,
} from './contract.ts';
import { multipartEtag } from './etag.ts';
import { type Around, type Call, wrapStore } from './wrap.ts';

export interface RetryOptions {
  /** First attempt included. */
  readonly maxAttempts: number;
  /** No attempt begins later than this after the first. */
  readonly maxTotalMs: number;
  /** The first pause is a random part of this, the next of twice this, … (full jitter). */
  readonly baseDelayMs: number;
  readonly maxDelayMs: number;
  readonly log: Logger;
  readonly clock?: Clock;
  readonly sleep?: (ms: number, signal: AbortSignal | undefined) => Promise<void>;
  /** In [0, 1). */
  readonly random?: () => number;
}

export const DEFAULT_RETRY = { maxAttempts: 6, maxTotalMs: 60_000, baseDelayMs: 100, maxDelayMs: 10_000 } as const;

/** `Corrupt`: bytes were damaged on their way to the store, which refused them. */
const TRANSIENT: readonly StoreErrorKind[] = ['Throttled', 'Unavailable', 'Timeout', 'Transport', 'Corrupt'];

/**
 * Repeats what failed for a passing reason. An attempt whose answer was lost may have succeeded, so the operations that are not
 * idempotent look at the bucket before they report a failure. The body of a GET that breaks off is the caller's to resume.
 */
export function retryStore(inner: ObjectStore, options: RetryOptions): ObjectStore {
  const around: Around = (call, attempt) => retrying(options, call, () => attempt());
  const store = wrapStore(inner, around);
  return {
    ...store,

    async put(key, body, request) {
      let attempts = 0;
      try {
        return await around({ operation: 'put', key, signal: request.signal }, () => {
          attempts += 1;
          return inner.put(key, body, request);
        });
      } catch (error) {
        if (request.ifNoneMatch === undefined || attempts === 1 || !isStoreError(error, 'PreconditionFailed'))
          throw error;
        // The object in the way may be our own, of an attempt whose answer was lost.
        const own = await versionOf(store, key, await md5Hex(body), request.signal);
        if (own === undefined) throw error;
        return own;
      }
    },

    async deleteMany(keys, request) {
      const call: Call = { operation: 'deleteMany', key: `${keys.length} keys`, signal: request?.signal };
      const failures: DeleteFailure[] = [];
      let pending: readonly DeleteFailure[] = [];
      let remaining = keys;
      try {
        await retrying(options, call, async () => {
          const answer = await inner.deleteMany(remaining, request);
          failures.push(...answer.filter(({ error }) => !isStoreError(error, ...TRANSIENT)));
          pending = answer.filter(({ error }) => isStoreError(error, ...TRANSIENT));
          remaining = pending.map(({ key }) => key);
          if (pending[0] !== undefined) throw pending[0].error;
        });
      } catch (error) {
        if (!pending.some((failure) => failure.error === error)) throw error;
      }
      return [...failures, ...pending];
    },

    completeMultipart(upload, parts, request) {
      const call: Call = { operation: 'completeMultipart', key: upload.key, signal: request?.signal };
      const etag = multipartEtag(parts.map((part) => part.etag));
      return retrying(options, call, async (attempt) => {
        if (attempt > 1 && etag !== undefined) {
          // Completing a second time fails in ways that differ by store (404; Ceph RGW: 500).
          const own = await versionOf(inner, upload.key, etag, request?.signal);
          if (own !== undefined) return own;
        }
        return inner.completeMultipart(upload, parts, request);
      });
    },
  };
}

async function retrying<T>(options: RetryOptions, call: Call, run: (attempt: number) => Promise<T>): Promise<T> {
  const clock = options.clock ?? systemClock;
  const startMs = clock.monotonicMs();
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await run(attempt);
    } catch (error) {
      if (!isStoreError(error, ...TRANSIENT) || attempt >= options.maxAttempts) throw error;
      const delayMs = delayAfter(options, attempt, error);
      if (clock.monotonicMs() - startMs + delayMs > options.maxTotalMs) throw error;
      const { operation, key } = call;
      options.log.debug({ operation, key, attempt, delayMs, kind: error.kind, reason: error.message }, 'retrying');
      await pause(options, delayMs, call);
    }
  }
}

function delayAfter(options: RetryOptions, attempt: number, error: StoreError): number {
  const ceilingMs = Math.min(options.maxDelayMs, options.baseDelayMs * 2 ** (attempt - 1));
  const jitteredMs = Math.round((options.random ?? Math.random)() * ceilingMs);
  return Math.max(jitteredMs, error.retryAfterMs ?? 0);
}

async function pause(options: RetryOptions, delayMs: number, { key, signal }: Call): Promise<void> {
  try {
    await (options.sleep ?? sleep)(delayMs, signal);
  } catch (error) {
    if (signal?.aborted) throw new StoreError('Aborted', `${key}: given up between two attempts`);
    throw error;
  }
}

async function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await sleepFor(ms, undefined, signal === undefined ? {} : { signal });
}

/** The version of a key, if it has this ETag. */
async function versionOf(
  store: ObjectStore,
  key: string,
  etag: string,
  signal: AbortSignal | undefined,
): Promise<PutResult | undefined> {
  const request: Cancelable = signal === undefined ? {} : { signal };
  try {
    const head = await store.head(key, request);
    return head.etag === etag ? { etag, lastModifiedMs: head.lastModifiedMs } : undefined;
  } catch (error) {
    if (isStoreError(error, 'NotFound')) return undefined;
    throw error;
  }
}

async function md5Hex(body: BodySource): Promise<string> {
  if (body.md5 !== undefined) return Buffer.from(body.md5, 'base64').toString('hex');
  const hash = createHash('md5');
  const content = body.open();
  if (content instanceof Uint8Array) return hash.update(content).digest('hex');
  for await (const chunk of content) hash.update(chunk);
  return hash.digest('hex');
}
