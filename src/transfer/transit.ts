/** What all downloads share: the store, the memory for bytes between socket and disk, and the work under way. */
import type { Logger } from '../base/log.ts';
import { Semaphore } from '../base/semaphore.ts';
import type { ObjectStore } from '../store/contract.ts';
import { BlockPool } from './block-pool.ts';
import { EtagTrust, type Flight } from './flight.ts';
import { Inspector } from './inspector.ts';

/** Share of the memory that blocks may keep which the cache would not take. */
const HELD_SHARE = 1 / 4;
/** Share of the memory up to which something may be read ahead. */
const AHEAD_SHARE = 1 / 2;

/** Blocks without a place in the cache, oldest first; they stay in memory until somebody needs it. */
class HeldBlocks {
  readonly #limitBytes: number;
  readonly #blocks = new Map<() => void, number>();
  #bytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  add(bytes: number, forget: () => void): void {
    this.#blocks.set(forget, bytes);
    this.#bytes += bytes;
    this.shrink(this.#limitBytes);
  }

  shrink(limitBytes: number): void {
    for (const forget of this.#blocks.keys()) {
      if (this.#bytes <= limitBytes) return;
      this.drop(forget);
    }
  }

  drop(forget: () => void): void {
    const bytes = this.#blocks.get(forget);
    if (bytes === undefined) return;
    this.#blocks.delete(forget);
    this.#bytes -= bytes;
    forget();
  }
}

export class Transit {
  readonly store: ObjectStore;
  readonly trust = new EtagTrust();
  readonly pool = new BlockPool();
  readonly inspector: Inspector;
  readonly memory: Semaphore;
  readonly held: HeldBlocks;
  readonly #log: Logger;
  readonly #flights = new Set<Flight>();
  readonly #work = new Set<Promise<void>>();

  constructor(store: ObjectStore, memoryLimitBytes: number, log: Logger) {
    this.store = store;
    this.inspector = new Inspector(this.trust, log);
    this.memory = new Semaphore(memoryLimitBytes);
    this.held = new HeldBlocks(memoryLimitBytes * HELD_SHARE);
    this.#log = log;
  }

  get inFlight(): number {
    return this.#flights.size;
  }

  /** Memory for bytes that somebody waits for, first come, first served. */
  async admit(bytes: number, signal?: AbortSignal): Promise<void> {
    if (this.memory.tryAcquire(bytes)) return;
    this.held.shrink(0);
    await this.memory.acquire(bytes, signal);
  }

  /** Memory for read-ahead: only what nobody else needs, and never by waiting. */
  get aheadRoomBytes(): number {
    return Math.max(0, this.memory.capacity * AHEAD_SHARE - this.memory.used);
  }

  track(flight: Flight | undefined, work: Promise<void>): void {
    if (flight !== undefined) this.#flights.add(flight);
    const settled = work
      .catch((error: unknown) => this.#log.error({ error }, 'a download failed in an unexpected way'))
      .finally(() => {
        if (flight !== undefined) this.#flights.delete(flight);
        this.#work.delete(settled);
      });
    this.#work.add(settled);
  }

  async close(): Promise<void> {
    this.inspector.close();
    for (const flight of this.#flights) flight.cancel();
    while (this.#work.size > 0) await Promise.all(this.#work);
    this.held.shrink(0);
    this.pool.close();
  }
}
