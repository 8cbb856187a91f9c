/** The one place where the decorators are stacked. */
import type { Logger } from '../base/log.ts';
import type { ObjectStore } from './contract.ts';
import { limitStore } from './limit.ts';
import { DEFAULT_RETRY, type RetryOptions, retryStore } from './retry.ts';
import { type StoreStats, traceStore } from './trace.ts';

export interface StackOptions {
  /** Requests at once, bodies of GET included. Connections are as many, so that none waits for a socket. */
  readonly maxInFlight: number;
  readonly log: Logger;
  readonly retry?: Partial<Omit<RetryOptions, 'log'>>;
}

export interface StackedStore {
  readonly store: ObjectStore;
  /** Of the requests that were really sent, attempts counted each. */
  readonly stats: () => StoreStats;
}

/** From the caller to the network: retry, limit, trace. A request that waits for its next attempt holds no slot. */
export function stackStore(base: ObjectStore, { maxInFlight, log, retry }: StackOptions): StackedStore {
  const { store: traced, stats } = traceStore(base, { log });
  const store = retryStore(limitStore(traced, maxInFlight), { ...DEFAULT_RETRY, ...retry, log });
  return { store, stats };
}
