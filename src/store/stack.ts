/** The one place where the decorators are stacked. */
import type { Logger } from '../base/log.ts';
import type { ObjectStore, StoreError } from './contract.ts';
import { HealthMonitor, type StoreHealth } from './health.ts';
import { limitStore } from './limit.ts';
import { DEFAULT_RETRY, type RetryOptions, retryStore } from './retry.ts';
import { type StoreStats, traceStore } from './trace.ts';
import { wrapStore } from './wrap.ts';

export interface StackOptions {
  /** Requests at once, bodies of GET included. Connections are as many, so that none waits for a socket. */
  readonly maxInFlight: number;
  readonly log: Logger;
  readonly retry?: Partial<Omit<RetryOptions, 'log'>>;
  /** What is wrong and what to do, in a sentence, for log and status. */
  readonly advise?: (error: StoreError) => string;
}

export interface StackedStore {
  readonly store: ObjectStore;
  /** Of the requests that were really sent, attempts counted each. */
  readonly stats: () => StoreStats;
  readonly health: () => StoreHealth;
  /** Called when a store that could not be asked can be again. */
  readonly onReturn: (listener: () => void) => void;
}

/**
 * From the caller to the network: retry, limit, health, trace. A request that waits for its next attempt holds no slot; one that got its slot
 * too late does not wait for a store that is away.
 */
export function stackStore(base: ObjectStore, options: StackOptions): StackedStore {
  const { maxInFlight, log, retry, advise = (error) => error.message } = options;
  const { store: traced, stats } = traceStore(base, { log });
  const monitor = new HealthMonitor((signal) => traced.check({ signal }), { log, advise });
  const watched = wrapStore(traced, monitor.around);
  const retrying = retryStore(limitStore(watched, maxInFlight), { ...DEFAULT_RETRY, ...retry, log });
  const close = () => {
    monitor.close();
    retrying.close();
  };
  return {
    store: { ...retrying, close },
    stats,
    health: () => monitor.health(),
    onReturn: (listener) => monitor.onReturn(listener),
  };
}
