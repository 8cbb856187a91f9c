/** One ranged GET over adjacent blocks of one version, with repeats from where a body broke off. */
import { createHash, type Hash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { BLOCK_BYTES } from '../cache/contract.ts';
import { type GetResult, isStoreError, type ObjectBody, type ObjectStore, StoreError } from '../store/contract.ts';
import { abortedError } from './abort.ts';
import type { BlockMemory, BlockPool } from './block-pool.ts';
import type { Source } from './contract.ts';
import { looksLikeMd5 } from './etag.ts';

/** Objects up to this size are fetched whole, and compared with their MD5 before anybody sees them. */
export const SMALL_OBJECT_BYTES = 1024 * 1024;
/** Broken bodies in a row, without one block of progress. */
const FAILURES_MAX = 4;
const RETRY_DELAY_MS = 100;
/** Less than this is not worth giving up a connection for. */
const CANCEL_MIN_BYTES = 1024 * 1024;

/** Learns whether the ETags of this store are MD5s: under SSE-KMS they look like one and are not. */
export class EtagTrust {
  #matches = 0;
  #areMd5 = true;

  expects(source: Source): boolean {
    return this.#areMd5 && looksLikeMd5(source.etag);
  }

  noteMatch(): void {
    this.#matches += 1;
  }

  /** Two transfers brought the same bytes, and their MD5 is not the ETag: the bytes are right. */
  noteForeign(): void {
    if (this.#matches === 0) this.#areMd5 = false;
  }
}

export interface FlightRequest {
  readonly store: ObjectStore;
  readonly trust: EtagTrust;
  readonly pool: BlockPool;
  readonly source: Source;
  readonly first: number;
  /** Exclusive. */
  readonly end: number;
  /** An answer that is already there; used for the first attempt. */
  readonly opened?: GetResult;
  /** `memory`: where the bytes are, held for the callee, who releases it. */
  readonly onBlock: (block: number, bytes: Uint8Array, memory?: BlockMemory) => void;
}

export class Flight {
  readonly #request: FlightRequest;
  readonly #abort = new AbortController();
  /** The first block that is not delivered. */
  #next: number;
  #interested = 0;
  #isOver = false;
  #opened: GetResult | undefined;
  #wrongDigest: string | undefined;

  constructor(request: FlightRequest) {
    this.#request = request;
    this.#next = request.first;
    this.#opened = request.opened;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Nothing more will come of it. */
  get isOver(): boolean {
    return this.#isOver;
  }

  hasDelivered(block: number): boolean {
    return block < this.#next;
  }

  /** Somebody wants these bytes. */
  join(): void {
    this.#interested += 1;
  }

  leave(): void {
    this.#interested -= 1;
    if (this.#interested > 0) return;
    const { end, source } = this.#request;
    const restBytes = Math.min(end * BLOCK_BYTES, source.sizeBytes) - this.#next * BLOCK_BYTES;
    if (restBytes > CANCEL_MIN_BYTES) this.cancel();
  }

  cancel(): void {
    this.#abort.abort(abortedError());
  }

  /** Resolves when all blocks were delivered, in order. Rejects with a StoreError. */
  async run(): Promise<void> {
    try {
      await this.#fly();
    } finally {
      this.#isOver = true;
    }
  }

  async #fly(): Promise<void> {
    for (let failures = 0; ; ) {
      // The store's own retry stands behind this request: what fails here has failed for good.
      const result = this.#opened ?? (await this.#get());
      this.#opened = undefined;
      const before = this.#next;
      try {
        await this.#receive(result);
        return;
      } catch (error) {
        if (this.signal.aborted) throw abortedError();
        failures = this.#next > before ? 1 : failures + 1;
        const limit = isStoreError(error, 'Corrupt') ? 1 : FAILURES_MAX;
        if (!isStoreError(error, 'Transport', 'Timeout', 'Corrupt') || failures > limit) throw error;
      }
      await delay(RETRY_DELAY_MS * failures, undefined, { signal: this.signal }).catch(() => {
        throw abortedError();
      });
    }
  }

  get #isWhole(): boolean {
    const { first, end, source } = this.#request;
    return first === 0 && end * BLOCK_BYTES >= source.sizeBytes;
  }

  async #get(): Promise<GetResult> {
    const { store, source, end } = this.#request;
    const offset = this.#next * BLOCK_BYTES;
    const length = Math.min(end * BLOCK_BYTES, source.sizeBytes) - offset;
    const range = this.#isWhole && offset === 0 ? {} : { range: { offset, length } };
    return store.get(source.key(), { ...range, ifMatch: source.etag, signal: this.signal });
  }

  async #receive(result: GetResult): Promise<void> {
    const { source } = this.#request;
    const body = result.body[Symbol.asyncIterator]();
    const { fill } = result.body;
    try {
      if (result.head.etag !== source.etag || result.head.sizeBytes !== source.sizeBytes) {
        throw new StoreError('PreconditionFailed', 'the store answered with another version');
      }
      if (result.offset !== this.#next * BLOCK_BYTES) {
        throw new StoreError('Transport', 'the store answered with another range');
      }
      const isChecked = this.#isWhole && source.sizeBytes <= SMALL_OBJECT_BYTES && this.#request.trust.expects(source);
      if (isChecked) await this.#receiveChecked(body);
      else if (fill !== undefined) await this.#receiveBorrowed(fill);
      else await this.#receiveBlocks(body, (bytes) => this.#deliver(bytes));
    } finally {
      await body.return?.();
    }
  }

  #deliver(bytes: Uint8Array, memory?: BlockMemory): void {
    if (this.signal.aborted) throw abortedError();
    const block = this.#next;
    this.#next += 1;
    this.#request.onBlock(block, bytes, memory);
  }

  /** Many blocks: into memory that is used again and again. */
  async #receiveBorrowed(fill: NonNullable<ObjectBody['fill']>): Promise<void> {
    const { source, end, pool } = this.#request;
    const stop = Math.min(end * BLOCK_BYTES, source.sizeBytes);
    for (let position = this.#next * BLOCK_BYTES; position < stop; position += BLOCK_BYTES) {
      const memory = await pool.take(this.signal);
      const bytes = memory.bytes.subarray(0, stop - position);
      try {
        await fill(bytes);
        this.#deliver(bytes, memory);
      } catch (error) {
        memory.release();
        throw error;
      }
    }
  }

  async #receiveBlocks(body: AsyncIterator<Uint8Array>, onBlock: (bytes: Uint8Array) => void): Promise<void> {
    const { source, end } = this.#request;
    const stop = Math.min(end * BLOCK_BYTES, source.sizeBytes);
    let position = this.#next * BLOCK_BYTES;
    let chunk: Uint8Array = new Uint8Array(0);
    while (position < stop) {
      const block = Buffer.allocUnsafeSlow(Math.min(BLOCK_BYTES, stop - position));
      for (let filled = 0; filled < block.length; ) {
        if (chunk.length === 0) chunk = await nextChunk(body);
        const taken = chunk.subarray(0, block.length - filled);
        block.set(taken, filled);
        filled += taken.length;
        chunk = chunk.subarray(taken.length);
      }
      position += block.length;
      onBlock(block);
    }
  }

  async #receiveChecked(body: AsyncIterator<Uint8Array>): Promise<void> {
    const { trust, source } = this.#request;
    const hash: Hash = createHash('md5');
    const blocks: Uint8Array[] = [];
    await this.#receiveBlocks(body, (bytes) => {
      hash.update(bytes);
      blocks.push(bytes);
    });
    const digest = hash.digest('hex');
    if (digest === source.etag.toLowerCase()) {
      trust.noteMatch();
    } else if (digest === this.#wrongDigest) {
      trust.noteForeign();
    } else {
      this.#wrongDigest = digest;
      throw new StoreError('Corrupt', 'the object does not match its MD5');
    }
    for (const bytes of blocks) this.#deliver(bytes);
  }
}

async function nextChunk(body: AsyncIterator<Uint8Array>): Promise<Uint8Array> {
  const { done, value } = await body.next();
  if (done) throw new StoreError('Transport', 'the body ended early');
  return value;
}
