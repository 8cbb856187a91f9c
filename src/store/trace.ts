import { type Clock, systemClock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import { onceEnded } from './body.ts';
import { isStoreError, type ListPage, type ObjectStore, type StoreErrorKind } from './contract.ts';
import { type Around, type Operation, wrapStore } from './wrap.ts';

export interface OperationStats {
  /** Requests sent, attempts counted each. */
  readonly count: number;
  /** Until the answer's headers, for GET; until the whole answer, for the others. */
  readonly totalMs: number;
  readonly maxMs: number;
}

export interface StoreStats {
  readonly operations: Readonly<Partial<Record<Operation, OperationStats>>>;
  readonly errors: Readonly<Partial<Record<StoreErrorKind | 'Other', number>>>;
  /** Bodies of GET that are still being read included. */
  readonly inFlight: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

export interface TraceOptions {
  readonly log: Logger;
  readonly clock?: Clock;
}

/** Counts every request and logs it at debug level: operation, key, time and outcome, never headers. */
export function traceStore(
  inner: ObjectStore,
  { log, clock = systemClock }: TraceOptions,
): { readonly store: ObjectStore; readonly stats: () => StoreStats } {
  const operations: Partial<Record<Operation, OperationStats>> = {};
  const errors: Partial<Record<StoreErrorKind | 'Other', number>> = {};
  let inFlight = 0;
  let sentBytes = 0;
  let receivedBytes = 0;

  const count = (operation: Operation, ms: number) => {
    const before = operations[operation] ?? { count: 0, totalMs: 0, maxMs: 0 };
    const maxMs = Math.max(before.maxMs, ms);
    operations[operation] = { count: before.count + 1, totalMs: before.totalMs + ms, maxMs };
  };

  const around: Around = async (call, attempt) => {
    const { operation, key } = call;
    const startMs = clock.monotonicMs();
    inFlight += 1;
    try {
      const result = await attempt();
      // That a listing has ended is known from its last page, without a request.
      if (operation === 'list' && (result as IteratorResult<ListPage>).done) return result;
      const ms = clock.monotonicMs() - startMs;
      count(operation, ms);
      log.debug({ operation, key, ms }, 'request');
      return result;
    } catch (error) {
      const ms = clock.monotonicMs() - startMs;
      const kind = isStoreError(error) ? error.kind : 'Other';
      count(operation, ms);
      errors[kind] = (errors[kind] ?? 0) + 1;
      log.debug({ operation, key, ms, kind }, 'request failed');
      throw error;
    } finally {
      inFlight -= 1;
    }
  };

  const traced = wrapStore(inner, around);
  const store: ObjectStore = {
    ...traced,
    async get(key, request) {
      const result = await traced.get(key, request);
      inFlight += 1;
      receivedBytes += result.lengthBytes;
      const body = onceEnded(result.body, () => {
        inFlight -= 1;
      });
      return { ...result, body };
    },
    async put(key, body, request) {
      const result = await traced.put(key, body, request);
      sentBytes += body.sizeBytes;
      return result;
    },
    async uploadPart(upload, partNumber, body, request) {
      const result = await traced.uploadPart(upload, partNumber, body, request);
      sentBytes += body.sizeBytes;
      return result;
    },
  };
  const stats = () => ({ operations: { ...operations }, errors: { ...errors }, inFlight, sentBytes, receivedBytes });
  return { store, stats };
}
