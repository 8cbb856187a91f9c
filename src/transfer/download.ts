import type { ContentId } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';
import { BLOCK_BYTES, type BlockCache } from '../cache/contract.ts';
import { isStoreError, type ObjectHead, type ObjectStore } from '../store/contract.ts';
import { abortable } from './abort.ts';
import type { ContentReader, Downloader, Source } from './contract.ts';
import { SMALL_OBJECT_BYTES } from './flight.ts';
import { Reader } from './reader.ts';
import { SharedContent } from './shared-content.ts';
import { Transit } from './transit.ts';

const MEMORY_LIMIT_BYTES = 64 * 1024 * 1024;

export interface DownloaderOptions {
  readonly store: ObjectStore;
  readonly cache: BlockCache;
  readonly log: Logger;
  /** For bytes between socket and disk, and those that the cache does not take. At least 8 MiB; 64 MiB when absent. */
  readonly memoryLimitBytes?: number;
}

interface First {
  readonly head: ObjectHead;
  readonly content: ContentId;
}

export function createDownloader(options: DownloaderOptions): Downloader {
  return new CachingDownloader(options);
}

class CachingDownloader implements Downloader {
  readonly #store: ObjectStore;
  readonly #cache: BlockCache;
  readonly #transit: Transit;
  readonly #contents = new Map<ContentId, SharedContent>();
  readonly #firsts = new Map<string, Promise<First>>();
  readonly #closing = new AbortController();

  constructor(options: DownloaderOptions) {
    this.#store = options.store;
    this.#cache = options.cache;
    this.#transit = new Transit(options.store, options.memoryLimitBytes ?? MEMORY_LIMIT_BYTES, options.log);
  }

  async first(key: string, allocate: () => ContentId, signal?: AbortSignal): Promise<First> {
    let first = this.#firsts.get(key);
    if (first === undefined) {
      first = this.#first(key, allocate).finally(() => this.#firsts.delete(key));
      this.#firsts.set(key, first);
    }
    return abortable(first, signal);
  }

  async open(source: Source): Promise<ContentReader> {
    const shared = await this.#share(source.content, source.sizeBytes);
    const reader = new Reader(source, shared, this.#transit, this.#cache.usage().limitBytes);
    shared.unrefer();
    return reader;
  }

  usage() {
    const { memory, inFlight } = this.#transit;
    return { memoryBytes: memory.used, memoryLimitBytes: memory.capacity, inFlight };
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled(this.#firsts.values());
    await this.#transit.close();
  }

  async #first(key: string, allocate: () => ContentId): Promise<First> {
    const { signal } = this.#closing;
    await this.#transit.admit(SMALL_OBJECT_BYTES, signal);
    let admittedBytes = SMALL_OBJECT_BYTES;
    try {
      const result = await this.#store.get(key, { range: { offset: 0, length: SMALL_OBJECT_BYTES }, signal });
      const content = allocate();
      const { head } = result;
      const run = { first: 0, end: Math.ceil(Math.min(SMALL_OBJECT_BYTES, head.sizeBytes) / BLOCK_BYTES) };
      const shared = await this.#share(content, head.sizeBytes);
      const source = { key: () => key, etag: head.etag, sizeBytes: head.sizeBytes, content };
      // The caller has the attributes now; the bytes follow, and whoever reads waits for them there.
      shared.fetch(source, run, true, result);
      admittedBytes -= shared.bytesOf(run);
      shared.unrefer();
      return { head, content };
    } catch (error) {
      if (!isStoreError(error, 'InvalidRange')) throw error;
      // A range of nothing: the object is empty.
      return { head: await this.#store.head(key), content: allocate() };
    } finally {
      this.#transit.memory.release(admittedBytes);
    }
  }

  /** With a reference taken, so that it does not become idle on its way to the caller. */
  async #share(content: ContentId, sizeBytes: number): Promise<SharedContent> {
    const shared = this.#contents.get(content) ?? (await this.#openShared(content, sizeBytes));
    shared.refer();
    return shared;
  }

  async #openShared(content: ContentId, sizeBytes: number): Promise<SharedContent> {
    const cached = await this.#cache.open(content, sizeBytes);
    const meanwhile = this.#contents.get(content);
    if (meanwhile !== undefined) {
      cached.close();
      return meanwhile;
    }
    const shared: SharedContent = new SharedContent(cached, this.#transit, () => {
      if (this.#contents.get(content) === shared) this.#contents.delete(content);
      cached.close();
    });
    this.#contents.set(content, shared);
    return shared;
  }
}
