/**
 * Large objects come in ranges, for which S3 knows no checksum, and are read before all of them is there. Once it is, it is compared with the MD5
 * of the whole, where the ETag is one: in the background, from the page cache, one object at a time.
 */
import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { ContentId } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';
import { Semaphore } from '../base/semaphore.ts';
import { BLOCK_BYTES, type CachedContent } from '../cache/contract.ts';
import type { Source } from './contract.ts';
import { type EtagTrust, SMALL_OBJECT_BYTES } from './flight.ts';
import { readSlice } from './read-slice.ts';

/** Each block takes the JavaScript thread about 0.4 ms: half a second for the largest of these. */
const INSPECTED_MAX_BYTES = 256 * 1024 * 1024;
/** Digests of contents that did not match, remembered until they have come again. */
const WRONG_MAX = 1000;

export class Inspector {
  readonly #trust: EtagTrust;
  readonly #log: Logger;
  readonly #turn = new Semaphore(1);
  readonly #wrong = new LRUCache<ContentId, string>({ max: WRONG_MAX });
  readonly #closing = new AbortController();

  constructor(trust: EtagTrust, log: Logger) {
    this.#trust = trust;
    this.#log = log;
  }

  wants(source: Source): boolean {
    if (source.sizeBytes <= SMALL_OBJECT_BYTES || source.sizeBytes > INSPECTED_MAX_BYTES) return false;
    return this.#trust.expects(source) && !this.#closing.signal.aborted;
  }

  /** Of a complete content. It is discarded when it is not what the ETag says. */
  async inspect(cached: CachedContent, source: Source): Promise<void> {
    const digest = await this.#turn.run(() => this.#digest(cached));
    if (digest === undefined) return;
    if (digest === source.etag.toLowerCase()) {
      this.#trust.noteMatch();
    } else if (this.#wrong.get(cached.id) === digest) {
      // The same bytes twice are what the bucket has: the ETag is something else than their MD5.
      this.#trust.noteForeign();
    } else {
      this.#wrong.set(cached.id, digest);
      this.#log.warn({ key: source.key() }, 'an object arrived damaged; it is fetched again');
      cached.discard();
      source.onDamage?.();
    }
  }

  close(): void {
    this.#closing.abort();
  }

  /** Undefined when a block got lost, or there is no time left. */
  async #digest(cached: CachedContent): Promise<string | undefined> {
    const hash = createHash('md5');
    for (let offset = 0; offset < cached.sizeBytes; offset += BLOCK_BYTES) {
      if (this.#closing.signal.aborted) return undefined;
      const slice = await cached.slice(offset, BLOCK_BYTES);
      if (slice === undefined) return undefined;
      hash.update(await readSlice(slice));
    }
    return hash.digest('hex');
  }
}
