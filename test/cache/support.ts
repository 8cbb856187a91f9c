import { mkdtemp, read, rm } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { StampClock } from '../../src/base/clock.ts';
import type { ContentId } from '../../src/base/ids.ts';
import { silentLogger } from '../../src/base/log.ts';
import { openCache } from '../../src/cache/cache.ts';
import { BLOCK_BYTES, type BlockCache, type CacheOptions, type FileSlice } from '../../src/cache/contract.ts';
import type { ContentTable } from '../../src/index/contract.ts';
import { openIndex } from '../../src/index/open.ts';

const readAt = promisify(read);

export class TestClock implements StampClock {
  #ms = 1_700_000_000_000;

  nowMs(): number {
    return this.#ms;
  }

  monotonicMs(): number {
    return this.#ms;
  }

  stampMs(): number {
    return this.#ms;
  }

  advance(ms: number): void {
    this.#ms += ms;
  }
}

export interface CacheFixture {
  readonly directory: string;
  readonly contents: ContentTable;
  readonly clock: TestClock;
  open(options?: Partial<CacheOptions>): Promise<BlockCache>;
  /** A new id, opened. */
  allocate(): ContentId;
  dispose(): Promise<void>;
}

/** An index and an empty directory; caches opened on them are closed with `dispose`. */
export async function createFixture(parent = tmpdir()): Promise<CacheFixture> {
  const root = await promisify(mkdtemp)(join(parent, 'tsfs-cache-test-'));
  const directory = join(root, 'cache');
  const clock = new TestClock();
  const index = openIndex({ path: join(root, 'index.db'), log: silentLogger });
  const opened: BlockCache[] = [];
  return {
    directory,
    contents: index.contents,
    clock,
    allocate: () => index.contents.allocate(),
    async open(options = {}) {
      const cache = await openCache({
        directory,
        limitBytes: 2 ** 30,
        minFreeBytes: 0,
        contents: index.contents,
        transaction: (body) => index.transaction(body),
        clock,
        log: silentLogger,
        ...options,
      });
      opened.push(cache);
      return cache;
    },
    async dispose() {
      for (const cache of opened) await cache.close();
      await index.close();
      await promisify(rm)(root, { recursive: true, force: true });
    },
  };
}

/** Bytes that differ at every place, and for every seed. */
export function pattern(lengthBytes: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(lengthBytes);
  let state = seed * 2654435761 + 1;
  for (let at = 0; at < lengthBytes; at += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

export function blockOf(bytes: Uint8Array, block: number): Uint8Array {
  return bytes.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
}

/** Reads a slice and releases it. */
export async function bytesOf(slice: FileSlice | undefined): Promise<Buffer | undefined> {
  if (slice === undefined) return undefined;
  const { bytesRead, buffer } = await readAt(
    slice.fd,
    Buffer.alloc(slice.lengthBytes),
    0,
    slice.lengthBytes,
    slice.offset,
  );
  slice.release();
  return buffer.subarray(0, bytesRead);
}
