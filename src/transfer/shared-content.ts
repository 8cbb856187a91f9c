/** One content that somebody reads: its place in the cache, and the blocks on their way there. Single-flight is here. */
import { BLOCK_BYTES, type CachedContent } from '../cache/contract.ts';
import type { GetResult } from '../store/contract.ts';
import type { Source } from './contract.ts';
import { Flight, type GiveBack } from './flight.ts';
import type { Transit } from './transit.ts';

/** Bytes asked for with one GET. */
export const FLIGHT_BLOCKS = (8 * 1024 * 1024) / BLOCK_BYTES;

/** A block that was asked for, from then until the cache has it (or it was dropped). */
export interface PendingBlock {
  readonly flight: Flight;
  /** Its bytes, as soon as they are in memory. undefined: the cache has it already, and nobody else. */
  readonly arrived: Promise<Uint8Array | undefined>;
  /** Whether the cache keeps it. Never rejects: a block that did not arrive is not kept. */
  readonly stored: Promise<boolean>;
}

interface Entry extends PendingBlock {
  readonly arrive: (bytes: Uint8Array | undefined) => void;
  readonly fail: (error: unknown) => void;
  readonly settle: (isStored: boolean) => void;
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
      onBlock: (block, bytes, giveBack) => this.#arrived(block, bytes, giveBack),
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
      const bytes = await this.#entries.get(block)?.arrived;
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

  #arrived(block: number, bytes: Uint8Array, giveBack: GiveBack | undefined): void {
    const entry = this.#entries.get(block);
    if (entry === undefined) {
      giveBack?.(true);
      return;
    }
    if (giveBack === undefined) entry.arrive(bytes);
    this.refer();
    this.#transit.track(undefined, this.#store(block, entry, bytes, giveBack));
  }

  async #store(block: number, entry: Entry, bytes: Uint8Array, giveBack: GiveBack | undefined): Promise<void> {
    const isStored = await this.cached.put(block, bytes);
    // Borrowed bytes are for nobody else, unless they are all that there is.
    entry.arrive(isStored && giveBack !== undefined ? undefined : bytes);
    giveBack?.(isStored);
    this.#isRefused = !isStored;
    const forget = () => {
      this.#entries.delete(block);
      this.#held.delete(block);
      this.#transit.memory.release(bytes.length);
      this.#checkIdle();
    };
    if (isStored) {
      forget();
    } else {
      this.#held.set(block, forget);
      this.#transit.held.add(bytes.length, forget);
    }
    this.#inspectWhenComplete();
    entry.settle(isStored);
    this.unrefer();
  }

  #inspectWhenComplete(): void {
    const { inspector } = this.#transit;
    const source = this.#source;
    if (this.#inspection !== undefined || source === undefined) return;
    if (!this.cached.isComplete || !inspector.wants(source)) return;
    this.refer();
    this.#inspection = inspector.inspect(this.cached, source).finally(() => {
      this.#inspection = undefined;
      this.unrefer();
    });
    this.#transit.track(undefined, this.#inspection);
  }

  #checkIdle(): void {
    if (this.#references > 0 || this.#entries.size > 0) return;
    this.#onIdle();
  }
}

function createEntry(flight: Flight): Entry {
  const arrival = Promise.withResolvers<Uint8Array | undefined>();
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
  };
}
