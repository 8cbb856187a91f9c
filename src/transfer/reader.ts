import { assert } from '../base/assert.ts';
import { BLOCK_BYTES, type FileSlice, type MemorySlice, type Slice } from '../cache/contract.ts';
import { abortable, abortedError } from './abort.ts';
import type { ContentReader, Source } from './contract.ts';
import { type Flight, SMALL_OBJECT_BYTES } from './flight.ts';
import { type AheadRange, ReadAhead } from './read-ahead.ts';
import { readSlice } from './read-slice.ts';
import {
  type BlockRun,
  FLIGHT_BLOCKS,
  type HeldBytes,
  type PendingBlock,
  type SharedContent,
} from './shared-content.ts';
import type { Transit } from './transit.ts';

const WINDOW_MAX_BYTES = 32 * 1024 * 1024;
/** Where the cache takes nothing, what is read ahead waits in memory. */
const WINDOW_UNCACHED_BYTES = 1024 * 1024;
/** Less is not worth a request. */
const AHEAD_MIN_BLOCKS = 4;
/** All of an object: once, and once more when it came damaged. */
const FETCH_ROUNDS = 2;
const READ_BYTES_MAX = 8 * 1024 * 1024;

export class Reader implements ContentReader {
  readonly source: Source;
  readonly #shared: SharedContent;
  readonly #transit: Transit;
  readonly #cacheLimitBytes: number;
  readonly #ahead = new ReadAhead();
  /** Flights with bytes that nobody asked for yet; they go on while this reader is open. */
  readonly #aheadFlights = new Set<Flight>();
  #isOpen = true;

  constructor(source: Source, shared: SharedContent, transit: Transit, cacheLimitBytes: number) {
    this.source = source;
    this.#shared = shared;
    this.#transit = transit;
    this.#cacheLimitBytes = cacheLimitBytes;
    shared.refer();
  }

  get isComplete(): boolean {
    return this.#shared.cached.isComplete;
  }

  async read(offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Slice> {
    if (signal?.aborted) throw abortedError();
    const length = Math.min(lengthBytes, this.source.sizeBytes - offset);
    if (length <= 0) return memorySlice([]);
    this.#shared.refer();
    try {
      this.#start(offset, length);
      const slice = await this.#fromDisk(offset, length);
      if (slice !== undefined) return slice;
      await this.#arrival(offset, length, signal);
      return (await this.#fromDisk(offset, length)) ?? (await this.#assemble(offset, length, signal));
    } finally {
      this.#shared.unrefer();
    }
  }

  async readBytes(offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Uint8Array> {
    assert(lengthBytes <= READ_BYTES_MAX, 'at most 8 MiB at once');
    const slice = await this.read(offset, lengthBytes, signal);
    if (slice.kind === 'file') return readSlice(slice);
    const bytes = Buffer.concat(slice.pieces);
    slice.release();
    return bytes;
  }

  async fetchAll(signal?: AbortSignal): Promise<boolean> {
    // It would push everything else out of the cache, and then not fit.
    if (this.source.sizeBytes > this.#cacheLimitBytes) return this.isComplete;
    this.#shared.refer();
    try {
      for (let round = 0; round < FETCH_ROUNDS; round += 1) {
        if (!(await this.#fetchBlocks(signal))) return false;
        await this.#shared.inspected();
        if (this.isComplete) return true;
      }
      return false;
    } finally {
      this.#shared.unrefer();
    }
  }

  async whole(mayBeUnchecked: boolean): Promise<FileSlice | undefined> {
    await this.#shared.inspected();
    return this.#shared.cached.whole(mayBeUnchecked);
  }

  moveOut(path: string, fd: number): Promise<boolean> {
    return this.#shared.cached.moveOut(path, fd);
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    for (const flight of this.#aheadFlights) flight.leave();
    this.#aheadFlights.clear();
    this.#shared.unrefer();
  }

  /** Starts the requests for what is missing of the range, and for what a sequential reader wants next. */
  #start(offset: number, length: number): void {
    const { sizeBytes } = this.source;
    const demanded =
      sizeBytes <= SMALL_OBJECT_BYTES ? blocksOf(0, sizeBytes) : blocksOf(offset, Math.min(offset + length, sizeBytes));
    const windowBytes = this.#shared.isRefused ? WINDOW_UNCACHED_BYTES : WINDOW_MAX_BYTES;
    const ahead = this.#isOpen ? this.#ahead.note(offset, length, windowBytes) : undefined;
    if (ahead !== undefined) this.#fetchAhead(demanded.first, ahead);
    const { first } = demanded;
    let { end } = demanded;
    if (this.#shared.missing(first, end).length === 0) return;
    // Also where memory is short a sequential reader gets more than one block with a request.
    if (ahead !== undefined) end = Math.max(end, Math.min(first + AHEAD_MIN_BLOCKS, this.#shared.cached.blockCount));
    for (const run of this.#shared.missing(first, end)) this.#shared.fetch(this.source, run, false);
  }

  /** Adjacent demanded and future blocks go into one request. */
  #fetchAhead(first: number, ahead: AheadRange): void {
    const { end } = blocksOf(ahead.start, Math.min(ahead.end, this.source.sizeBytes));
    const reached = this.#fetchIfRoom(first, end);
    if (reached < end) this.#ahead.retreat(ahead, reached * BLOCK_BYTES);
  }

  /** Fetches as much as there is memory to spare for. Returns the block that it reached. */
  #fetchIfRoom(first: number, end: number): number {
    for (const flight of this.#aheadFlights) if (flight.isOver) this.#aheadFlights.delete(flight);
    for (const wanted of this.#shared.missing(first, end)) {
      const roomBlocks = Math.floor(this.#transit.aheadRoomBytes / BLOCK_BYTES);
      const run = { first: wanted.first, end: Math.min(wanted.end, wanted.first + roomBlocks) };
      const isWorthIt = run.end === wanted.end || run.end - run.first >= AHEAD_MIN_BLOCKS;
      if (!isWorthIt || !this.#transit.memory.tryAcquire(this.#shared.bytesOf(run))) return wanted.first;
      const flight = this.#shared.fetch(this.source, run, true);
      flight.join();
      this.#aheadFlights.add(flight);
      if (run.end < wanted.end) return run.end;
    }
    return end;
  }

  /** Of all that is on its way. */
  async #arrival(offset: number, length: number, signal: AbortSignal | undefined): Promise<void> {
    const { first, end } = blocksOf(offset, offset + length);
    const arrivals: Promise<unknown>[] = [];
    for (let block = first; block < end; block += 1) {
      const pending = this.#shared.pending(block);
      if (pending !== undefined) arrivals.push(interestedIn(pending.flight, pending.arrived, signal));
    }
    await Promise.all(arrivals);
  }

  /** undefined as well where memory has some of it: what was written past the page cache is slow to come back. */
  async #fromDisk(offset: number, length: number): Promise<FileSlice | undefined> {
    const { first, end } = blocksOf(offset, offset + length);
    for (let block = first; block < end; block += 1) if (this.#shared.pending(block) !== undefined) return undefined;
    return this.#shared.cached.slice(offset, length);
  }

  async #assemble(offset: number, length: number, signal: AbortSignal | undefined): Promise<MemorySlice> {
    const { first, end } = blocksOf(offset, offset + length);
    const wanted: Promise<HeldBytes>[] = [];
    for (let block = first; block < end; block += 1) {
      const from = Math.max(offset, block * BLOCK_BYTES);
      const to = Math.min(offset + length, (block + 1) * BLOCK_BYTES);
      wanted.push(this.#piece(block, from, to, signal));
    }
    const results = await Promise.allSettled(wanted);
    const pieces = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    const slice = memorySlice(pieces);
    const failure = results.find((result) => result.status === 'rejected');
    if (failure === undefined) return slice;
    slice.release();
    throw failure.reason;
  }

  /** Bytes `[from, to)` of the object, all within one block. */
  async #piece(block: number, from: number, to: number, signal: AbortSignal | undefined): Promise<HeldBytes> {
    const start = block * BLOCK_BYTES;
    for (;;) {
      const held = this.#shared.hold(block);
      if (held !== undefined) {
        const { bytes, release } = held;
        if (to === start + bytes.length) this.#shared.noteRead(block);
        return { bytes: bytes.subarray(from - start, to - start), release };
      }
      let pending = this.#shared.pending(block);
      if (pending === undefined) {
        const slice = await this.#shared.cached.slice(from, to - from);
        if (slice !== undefined) return { bytes: await readSlice(slice), release: () => undefined };
        pending = this.#demand(block);
      }
      await interestedIn(pending.flight, pending.arrived, signal);
    }
  }

  /** A block that the cache has lost since it was asked. */
  #demand(block: number): PendingBlock {
    const [run] = this.#shared.missing(block, block + 1);
    if (run !== undefined) this.#shared.fetch(this.source, run, false);
    const pending = this.#shared.pending(block);
    assert(pending !== undefined, 'a missing block is on its way');
    return pending;
  }

  async #fetchBlocks(signal: AbortSignal | undefined): Promise<boolean> {
    const { blockCount } = this.#shared.cached;
    await this.#shared.offerAgain();
    for (let first = 0; first < blockCount; first += FLIGHT_BLOCKS) {
      if (!(await this.#fetchChunk(first, Math.min(first + FLIGHT_BLOCKS, blockCount), signal))) return false;
    }
    return this.isComplete;
  }

  async #fetchChunk(first: number, end: number, signal: AbortSignal | undefined): Promise<boolean> {
    for (const run of this.#shared.missing(first, end)) this.#shared.fetch(this.source, run, false);
    // The next chunk at the same time, so that the connection is never idle.
    if (this.#isOpen) this.#fetchIfRoom(end, Math.min(end + FLIGHT_BLOCKS, this.#shared.cached.blockCount));
    const blocks: Promise<boolean>[] = [];
    for (let block = first; block < end; block += 1) {
      const pending = this.#shared.pending(block);
      if (pending === undefined) continue;
      const stored = pending.arrived.then(() => pending.stored);
      blocks.push(interestedIn(pending.flight, stored, signal));
    }
    return (await Promise.all(blocks)).every(Boolean);
  }
}

function memorySlice(pieces: readonly HeldBytes[]): MemorySlice {
  const release = () => {
    for (const piece of pieces) piece.release();
  };
  return { kind: 'memory', pieces: pieces.map(({ bytes }) => bytes), release };
}

function blocksOf(start: number, end: number): BlockRun {
  return { first: Math.floor(start / BLOCK_BYTES), end: Math.ceil(end / BLOCK_BYTES) };
}

async function interestedIn<T>(flight: Flight, promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  flight.join();
  try {
    return await abortable(promise, signal);
  } finally {
    flight.leave();
  }
}
