import type { Stats } from 'node:fs';
import { mkdir, stat } from 'node:fs/promises';
import { LRUCache } from 'lru-cache';
import type { StampClock } from '../base/clock.ts';
import type { ContentId } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';
import { removeFile } from '../base/remove-file.ts';
import { Semaphore } from '../base/semaphore.ts';
import type { ContentRow, ContentTable } from '../index/contract.ts';
import { blockCount } from './blocks.ts';
import { Content, type ContentEnvironment } from './content.ts';
import type { BlockCache, CachedContent, CacheOptions, CacheUsage, CacheVerdict, VerifyOptions } from './contract.ts';
import { CacheFiles, errorCode } from './files.ts';
import { Handle } from './handle.ts';
import { Space } from './space.ts';
import { sweep } from './sweep.ts';
import { verify } from './verify.ts';

/** Closed contents whose checksums and trust stay in memory, in blocks of all of them together (5 bytes each). */
const RECENT_BLOCKS = 2 ** 18;
const RECENT_CONTENTS = 4096;
/** Changes and uses that the index has not heard of yet. */
const CHANGED_MAX = 256;
const USES_MAX = 1000;
const FLUSH_DELAY_MS = 1000;
/** Candidates looked at in one go. */
const VICTIMS = 64;
const SUMMING_MAX = 2;
const BACKGROUND_MAX = 1000;

export interface CacheDependencies extends CacheOptions {
  readonly contents: ContentTable;
  /** Makes one index transaction of several writes. */
  readonly transaction?: <T>(body: () => T) => T;
  readonly clock: StampClock;
  readonly log: Logger;
}

/** Rejects with the error of mkdir(2) when the directory cannot be made. Reads at most its top level; the rest is looked through later. */
export async function openCache(options: CacheDependencies): Promise<BlockCache> {
  await mkdir(options.directory, { recursive: true, mode: 0o700 });
  return new DiskCache(options);
}

class DiskCache implements BlockCache {
  readonly #options: CacheDependencies;
  readonly #files: CacheFiles;
  readonly #space: Space;
  readonly #env: ContentEnvironment;
  readonly #counters = { damagedBlocks: 0, refusedBlocks: 0, evictedFiles: 0 };
  /** Contents with references, and changed ones. */
  readonly #live = new Map<ContentId, Content>();
  readonly #recent = new LRUCache<ContentId, Content>({ max: RECENT_CONTENTS, maxSize: RECENT_BLOCKS });
  /** Invariant: a subset of the values of #live. */
  readonly #changed = new Set<Content>();
  readonly #uses = new Map<ContentId, number>();
  readonly #summing = new Semaphore(SUMMING_MAX);
  readonly #background = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  /** The index could not be written to the last time. */
  #isFailing = false;

  constructor(options: CacheDependencies) {
    const { directory, clock, log, contents } = options;
    this.#options = options;
    this.#files = new CacheFiles(directory, clock);
    this.#space = new Space({
      ...options,
      usedBytes: contents.totalPresentBytes(),
      evict: (bytes) => this.#evict(bytes),
    });
    const noteChanged = (content: Content) => this.#noteChanged(content);
    const record = (content: Content) => this.#isRecorded(content);
    this.#env = { files: this.#files, space: this.#space, clock, log, counters: this.#counters, noteChanged, record };
    if (options.tidy === false) return;
    this.#inBackground(this.#sweep());
    // The limit may be lower than last time.
    this.#inBackground(this.#space.reserve(0).then(() => undefined));
  }

  async open(id: ContentId, sizeBytes: number): Promise<CachedContent> {
    const content = this.#load(id, sizeBytes);
    this.touch(id);
    return new Handle(this.#refer(content), () => this.#unrefer(content));
  }

  async adopt(id: ContentId, sizeBytes: number, path: string, checksums?: Uint32Array): Promise<boolean> {
    try {
      const stats = await stat(path);
      const isAdopted = stats.size === sizeBytes && (await this.#adopt(id, path, stats, checksums));
      if (!isAdopted) await removeFile(path);
      return isAdopted;
    } catch (error) {
      this.#options.log.warn({ content: id, code: errorCode(error) }, 'cannot take a file over into the cache');
      await removeFile(path);
      return false;
    }
  }

  remove(id: ContentId): void {
    const content = this.#live.get(id);
    if (content !== undefined && content.references > 0) {
      content.isRemoved = true;
      this.#changed.delete(content);
      this.#options.contents.delete([id]);
      return;
    }
    this.#flush();
    const row = this.#options.contents.get(id);
    if (row !== undefined) this.#inBackground(this.#drop([row]));
  }

  touch(id: ContentId): void {
    this.#uses.set(id, this.#options.clock.stampMs());
    if (this.#uses.size >= USES_MAX) this.#flushUses();
    else this.#flushSoon();
  }

  verify(options: VerifyOptions): Promise<CacheVerdict> {
    this.#flush();
    return verify({
      ...options,
      directory: this.#options.directory,
      contents: this.#options.contents,
      isKnown: (id) => this.#isKnown(id),
      using: async (row, work) => {
        const content = this.#refer(this.#load(row.id, row.sizeBytes));
        return work(content).finally(() => this.#unrefer(content));
      },
      drop: (row) => this.#drop([row]),
    });
  }

  usage(): CacheUsage {
    return {
      bytes: this.#space.usedBytes,
      limitBytes: this.#options.limitBytes,
      openFiles: this.#files.openFiles,
      ...this.#counters,
    };
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#background);
    this.#flush();
    this.#flushUses();
    clearTimeout(this.#timer);
    await this.#files.close();
  }

  #load(id: ContentId, sizeBytes: number): Content {
    const known = this.#live.get(id) ?? this.#recent.get(id);
    if (known?.sizeBytes === sizeBytes) return known;
    const row = this.#options.contents.get(id);
    const isSound = row?.sizeBytes === sizeBytes && row.checksums.length === blockCount(sizeBytes);
    if (row !== undefined && !isSound) this.#inBackground(this.#drop([row]));
    return new Content(id, sizeBytes, isSound ? row : undefined, this.#env);
  }

  #refer(content: Content): Content {
    content.references += 1;
    this.#recent.delete(content.id);
    this.#live.set(content.id, content);
    return content;
  }

  #unrefer(content: Content): void {
    content.references -= 1;
    if (content.references > 0) return;
    this.#space.resume();
    if (content.isRemoved) {
      this.#live.delete(content.id);
      this.#inBackground(this.#unlink(content.id, content.presentBytes));
    } else if (!this.#changed.has(content)) {
      this.#retire(content);
    }
  }

  #retire(content: Content): void {
    this.#live.delete(content.id);
    this.#recent.set(content.id, content, { size: content.blockCount + 1 });
  }

  async #adopt(id: ContentId, path: string, stats: Stats, checksums: Uint32Array | undefined): Promise<boolean> {
    const content = this.#refer(new Content(id, stats.size, undefined, this.#env));
    const isAdopted = await content.adopt(path, stats, checksums).catch((error: unknown) => {
      this.#space.noteTrouble(error);
      return false;
    });
    if (!isAdopted || checksums !== undefined) {
      this.#unrefer(content);
      return isAdopted;
    }
    const summing = this.#summing.run(() => this.#sum(content)).finally(() => this.#unrefer(content));
    this.#inBackground(summing);
    // Contents wait for their checksums in memory: so many of them, not more.
    if (this.#background.size > BACKGROUND_MAX) await summing;
    return true;
  }

  async #sum(content: Content): Promise<void> {
    const { signal } = this.#closing;
    await content.sum(signal);
    // No time was left: without checksums the index never hears of the file.
    if (signal.aborted && content.row === undefined) await this.#files.remove(content.id);
  }

  #noteChanged(content: Content): void {
    if (content.isRemoved) return;
    this.#live.set(content.id, content);
    this.#changed.add(content);
    if (this.#changed.size >= CHANGED_MAX) this.#flush();
    else this.#flushSoon();
  }

  #flushSoon(): void {
    if (this.#closing.signal.aborted) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#flush();
      this.#flushUses();
    }, FLUSH_DELAY_MS).unref();
  }

  #flush(): void {
    if (this.#changed.size === 0) return;
    const { transaction = (body) => body() } = this.#options;
    const changed = [...this.#changed];
    try {
      transaction(() => {
        for (const content of changed) this.#record(content);
      });
    } catch (error) {
      // Reads go on without the index's memory; what is not recorded is fetched again after a restart.
      if (!this.#isFailing) this.#options.log.warn({ error }, 'cannot record what is cached; will be tried again');
      this.#isFailing = true;
      this.#flushSoon();
      return;
    }
    this.#isFailing = false;
    this.#changed.clear();
    for (const content of changed) if (content.references === 0) this.#retire(content);
  }

  #isRecorded(content: Content): boolean {
    if (this.#changed.has(content)) this.#flush();
    return content.row !== undefined && !this.#changed.has(content);
  }

  #record({ row }: Content): void {
    if (row === undefined) return;
    if (row.presentBytes > 0) this.#options.contents.put(row);
    else this.#options.contents.delete([row.id]);
  }

  #flushUses(): void {
    if (this.#uses.size === 0) return;
    try {
      this.#options.contents.touch(this.#uses);
    } catch (error) {
      this.#options.log.warn({ error }, 'cannot record what is used');
    }
    this.#uses.clear();
  }

  #isKnown(id: ContentId): boolean {
    return this.#live.has(id) || this.#options.contents.get(id) !== undefined;
  }

  #isInUse(id: ContentId): boolean {
    return (this.#live.get(id)?.references ?? 0) > 0 || this.#files.isLeased(id);
  }

  /** Least recently used first. What is open counts as used now, so the next look finds others. */
  async #evict(bytes: number): Promise<boolean> {
    this.#flush();
    this.#flushUses();
    const { contents, clock } = this.#options;
    const seen = new Set<ContentId>();
    let freedBytes = 0;
    while (freedBytes < bytes) {
      const candidates = contents.oldest(VICTIMS);
      const spared = candidates.filter(({ id }) => this.#isInUse(id));
      const victims: typeof spared = [];
      for (const candidate of candidates) {
        if (spared.includes(candidate) || freedBytes >= bytes) continue;
        victims.push(candidate);
        freedBytes += candidate.presentBytes;
      }
      if (victims.length === 0 && candidates.every(({ id }) => seen.has(id))) break;
      for (const { id } of candidates) seen.add(id);
      contents.touch(new Map(spared.map(({ id }) => [id, clock.stampMs()])));
      this.#counters.evictedFiles += victims.length;
      await this.#drop(victims);
    }
    return freedBytes > 0;
  }

  /** Rows first: a crash in between leaves files that the next start sweeps away. */
  async #drop(rows: readonly Pick<ContentRow, 'id' | 'presentBytes'>[]): Promise<void> {
    this.#options.contents.delete(rows.map(({ id }) => id));
    for (const { id } of rows) this.#recent.delete(id);
    await Promise.all(rows.map(({ id, presentBytes }) => this.#unlink(id, presentBytes)));
  }

  async #unlink(id: ContentId, presentBytes: number): Promise<void> {
    await this.#files.remove(id);
    this.#space.release(presentBytes);
  }

  async #sweep(): Promise<void> {
    const { directory } = this.#options;
    const isKnown = (id: ContentId) => this.#isKnown(id);
    const removed = await sweep({ directory, isKnown, signal: this.#closing.signal });
    if (removed > 0) this.#options.log.info({ removed }, 'removed cache files that the index does not know');
  }

  /** Failures here cost space or a later fetch, never data. */
  #inBackground(work: Promise<void>): void {
    const settled = work
      .catch((error: unknown) => this.#options.log.warn({ error }, 'the cache cannot tidy up'))
      .finally(() => this.#background.delete(settled));
    this.#background.add(settled);
  }
}
