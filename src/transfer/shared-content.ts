/** One content that somebody reads: its place in the cache, and the blocks on their way there. Single-flight is here. */
import { BLOCK_BYTES, type CachedContent } from '../cache/contract.ts';
import type { GetResult } from '../store/contract.ts';
import type { BlockMemory } from './block-pool.ts';
import type { Source } from './contract.ts';
import { Flight } from './flight.ts';
import type { Transit } from './transit.ts';

/** Bytes asked for with one GET. */
export const FLIGHT_BLOCKS = (8 * 1024 * 1024) / BLOCK_BYTES;

/** A block that was asked for, from then until the cache has it and memory has it no more. */
export interface PendingBlock {
  readonly flight: Flight;
  /** As soon as its bytes are in memory. */
  readonly arrived: Promise<void>;
  /** Whether the cache keeps it. Never rejects: a block that did not arrive is not kept. */
  readonly stored: Promise<boolean>;
}

interface Entry extends PendingBlock {
  readonly arrive: () => void;
  readonly fail: (error: unknown) => void;
  readonly settle: (isStored: boolean) => void;
  /** From its arrival on. */
  bytes?: Uint8Array;
  /** What they are in, unless it is theirs alone. */
  memory?: BlockMemory | undefined;
  /** Somebody has read it to its end. */
  isRead: boolean;
}

/** Bytes in memory; they stay there until they are released. */
export interface HeldBytes {
  readonly bytes: Uint8Array;
  readonly release: () => void;
}

export interface BlockRun {
  readonly first: number;
  /** Exclusive. */
  readonly end: number;
}

export class SharedContent {
  readonly cached: CachedContent;
  readonly #transit: Transit;
  readonly #onIdle: () => void;
  readonly #entries = new Map<number, Entry>();
  /** Blocks that the cache did not take, and how to drop them. Invariant: their keys are keys of #entries. */
  readonly #held = new Map<number, () => void>();
  /** Blocks that the cache has, past the page cache, and nobody has read yet; and how to drop them. Invariant: their keys are keys of #entries. */
  readonly #spare = new Map<number, () => void>();
  #references = 0;
  #isRefused = false;
  /** What the blocks come from. */
  #source: Source | undefined;
  #inspection: Promise<void> | undefined;

  constructor(cached: CachedContent, transit: Transit, onIdle: () => void) {
    this.cached = cached;
    this.#transit = transit;
    this.#onIdle = onIdle;
  }

  /** The cache did not take the last block. */
  get isRefused(): boolean {
    return this.#isRefused;
  }

  refer(): void {
    this.#references += 1;
  }

  unrefer(): void {
    this.#references -= 1;
    this.#checkIdle();
  }

  pending(block: number): PendingBlock | undefined {
    return this.#entries.get(block);
  }

  /** The bytes of a block while memory has them. */
  hold(block: number): HeldBytes | undefined {
    const { bytes, memory } = this.#entries.get(block) ?? {};
    if (bytes === undefined) return undefined;
    memory?.hold();
    return { bytes, release: () => memory?.release() };
  }

  /** To its end: a sequential reader will not come back. */
  noteRead(block: number): void {
    const entry = this.#entries.get(block);
    if (entry !== undefined) entry.isRead = true;
    this.#spare.get(block)?.();
  }

  /** Runs of blocks in `[first, end)` that are neither present nor on their way, each short enough for one GET. */
  missing(first: number, end: number): BlockRun[] {
    const runs: BlockRun[] = [];
    for (let block = first; block < end; block += 1) {
      if (this.cached.has(block) || this.#entries.has(block)) continue;
      const last = runs.at(-1);
      if (last?.end === block && block - last.first < FLIGHT_BLOCKS)
        runs[runs.length - 1] = { ...last, end: block + 1 };
      else runs.push({ first: block, end: block + 1 });
    }
    return runs;
  }

  bytesOf(run: BlockRun): number {
    return Math.min(run.end * BLOCK_BYTES, this.cached.sizeBytes) - run.first * BLOCK_BYTES;
  }

  /** Starts the GET of a run that `missing` named. With `isAdmitted` its memory was taken already, by the caller. */
  fetch(source: Source, run: BlockRun, isAdmitted: boolean, opened?: GetResult): Flight {
    this.#source = source;
    const flight = new Flight({
      ...this.#transit,
      source,
      ...run,
      ...(opened === undefined ? {} : { opened }),
      onBlock: (block, bytes, memory) => this.#arrived(block, bytes, memory),
    });
    for (let block = run.first; block < run.end; block += 1) this.#entries.set(block, createEntry(flight));
    this.refer();
    this.#transit.track(flight, this.#fly(flight, run, isAdmitted));
    return flight;
  }

  /** Resolves when a comparison with the object's MD5 that is due is done. */
  inspected(): Promise<void> {
    return this.#inspection ?? Promise.resolve();
  }

  /** Offers the blocks to the cache again that it did not take: there may be room now. */
  async offerAgain(): Promise<void> {
    for (const [block, forget] of this.#held) {
      const bytes = this.#entries.get(block)?.bytes;
      if (bytes === undefined || !(await this.cached.put(block, bytes))) return;
      this.#transit.held.drop(forget);
    }
  }

  async #fly(flight: Flight, run: BlockRun, isAdmitted: boolean): Promise<void> {
    let isPaid = isAdmitted;
    // A flight that everybody left must make way for the next reader at once.
    flight.signal.addEventListener('abort', () => this.#fail(flight, run, flight.signal.reason, isPaid), {
      once: true,
    });
    try {
      if (!isPaid) await this.#transit.admit(this.bytesOf(run), flight.signal);
      isPaid = true;
      // Given up in the very moment of admission: its blocks failed before their memory was paid for.
      if (flight.signal.aborted && !isAdmitted) this.#transit.memory.release(this.bytesOf(run));
      else await flight.run();
    } catch (error) {
      this.#fail(flight, run, error, isPaid);
    } finally {
      this.unrefer();
    }
  }

  /** Fails what has not arrived, and gives its memory back. */
  #fail(flight: Flight, run: BlockRun, error: unknown, isPaid: boolean): void {
    for (let block = run.first; block < run.end; block += 1) {
      const entry = this.#entries.get(block);
      if (entry?.flight !== flight || flight.hasDelivered(block)) continue;
      this.#entries.delete(block);
      entry.fail(error);
      entry.settle(false);
      if (isPaid) this.#transit.memory.release(this.#lengthOf(block));
    }
  }

  #lengthOf(block: number): number {
    return this.bytesOf({ first: block, end: block + 1 });
  }

  #arrived(block: number, bytes: Uint8Array, memory: BlockMemory | undefined): void {
    const entry = this.#entries.get(block);
    if (entry === undefined) {
      memory?.release();
      return;
    }
    entry.bytes = bytes;
    entry.memory = memory;
    entry.arrive();
    this.refer();
    this.#transit.track(undefined, this.#store(block, entry, bytes));
  }

  async #store(block: number, entry: Entry, bytes: Uint8Array): Promise<void> {
    const isStored = await this.cached.put(block, bytes, entry.memory?.isPageAligned);
    this.#isRefused = !isStored;
    if (isStored) this.#noteStored(block, entry, bytes);
    else this.#noteRefused(block, entry, bytes);
    this.#inspectWhenComplete();
    entry.settle(isStored);
    this.unrefer();
  }

  #noteStored(block: number, entry: Entry, bytes: Uint8Array): void {
    const { memory: budget, pool } = this.#transit;
    budget.release(bytes.length);
    const forget = () => {
      this.#entries.delete(block);
      entry.memory?.release();
      this.#checkIdle();
    };
    if (entry.memory === undefined || entry.isRead) {
      forget();
      return;
    }
    const drop = () => {
      if (!this.#spare.delete(block)) return;
      pool.unspare(drop);
      forget();
    };
    this.#spare.set(block, drop);
    pool.spare(drop);
  }

  /** It is kept out of the pool, which is for what is on its way. */
  #noteRefused(block: number, entry: Entry, bytes: Uint8Array): void {
    if (entry.memory !== undefined) entry.bytes = Buffer.from(bytes);
    entry.memory?.release();
    entry.memory = undefined;
    const forget = () => {
      this.#entries.delete(block);
      this.#held.delete(block);
      this.#transit.memory.release(bytes.length);
      this.#checkIdle();
    };
    this.#held.set(block, forget);
    this.#transit.held.add(bytes.length, forget);
  }

  #inspectWhenComplete(): void {
    const { inspector } = this.#transit;
    const source = this.#source;
    if (this.#inspection !== undefined || source === undefined) return;
    if (!this.cached.isComplete || !inspector.wants(source)) return;
    this.refer();
    this.#inspection = inspector.inspect(this.cached, source).finally(() => {
      this.#inspection = undefined;
      // Damaged: so is what memory has of it.
      if (!this.cached.isComplete) this.#dropSpare();
      this.unrefer();
    });
    this.#transit.track(undefined, this.#inspection);
  }

  #dropSpare(): void {
    for (const drop of [...this.#spare.values()]) drop();
  }

  #checkIdle(): void {
    if (this.#references > 0) return;
    if (this.#spare.size > 0) this.#dropSpare();
    else if (this.#entries.size === 0) this.#onIdle();
  }
}

function createEntry(flight: Flight): Entry {
  const arrival = Promise.withResolvers<void>();
  const storing = Promise.withResolvers<boolean>();
  // Read ahead, maybe for nobody: a failure that nobody hears is no error.
  arrival.promise.catch(() => {});
  return {
    flight,
    arrived: arrival.promise,
    arrive: arrival.resolve,
    fail: arrival.reject,
    stored: storing.promise,
    settle: storing.resolve,
    isRead: false,
  };
}
