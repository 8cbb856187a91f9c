/**
 * Read-ahead across files: whoever reads the files of a directory one after the other, in the order in which it lists them (`cp -r`, `grep -r`, tar), gets
 * the next small ones fetched before they are asked for, many at a time.
 */
import { LRUCache } from 'lru-cache';
import type { NodeId } from '../base/ids.ts';
import { Semaphore } from '../base/semaphore.ts';
import type { NodeRow } from '../index/contract.ts';
import type { Contents } from './content.ts';
import type { FsContext } from './context.ts';
import type { Resolver } from './resolver.ts';

/** Larger ones have a read-ahead of their own. */
const SMALL_FILE_BYTES = 1024 * 1024;
/** Opens in order before anything is fetched ahead. */
const MIN_RUN = 3;
const MAX_AHEAD = 32;
/** A reader may skip what it does not care for, and still counts as going on in order. */
const MAX_SKIPPED = 8;
const PARALLEL = 8;
const WATCHED_DIRECTORIES = 256;

interface Walk {
  lastId: NodeId;
  run: number;
  /** Up to here everything is fetched, or on its way. */
  fetchedId: NodeId;
}

export class NextFiles {
  readonly #context: FsContext;
  readonly #resolver: Resolver;
  readonly #contents: Contents;
  readonly #walks = new LRUCache<NodeId, Walk>({ max: WATCHED_DIRECTORIES });
  readonly #slots = new Semaphore(PARALLEL);

  constructor(context: FsContext, resolver: Resolver, contents: Contents) {
    this.#context = context;
    this.#resolver = resolver;
    this.#contents = contents;
  }

  noteOpen(row: NodeRow): void {
    if (row.parent === undefined) return;
    const walk = this.#walks.get(row.parent);
    if (walk === undefined) {
      this.#walks.set(row.parent, { lastId: row.id, run: 1, fetchedId: row.id });
      return;
    }
    // Directories are listed in order of node id.
    const isNext = row.id > walk.lastId && row.id <= walk.lastId + MAX_SKIPPED;
    walk.run = isNext ? walk.run + 1 : 1;
    walk.lastId = row.id;
    if (!isNext || walk.fetchedId < row.id) walk.fetchedId = row.id;
    if (walk.run >= MIN_RUN) this.#fetchAhead(row.parent, walk);
  }

  /** The window grows with the walk, so that a short one costs little. */
  #fetchAhead(directory: NodeId, walk: Walk): void {
    const ahead = Math.min(MAX_AHEAD, walk.run * 2);
    for (const row of this.#context.index.nodes.children(directory, walk.lastId, ahead)) {
      if (row.id <= walk.fetchedId) continue;
      walk.fetchedId = row.id;
      if (row.kind === 'file' && !row.dirty && row.sizeBytes > 0 && row.sizeBytes <= SMALL_FILE_BYTES) {
        void this.#slots.run(() => this.#fetch(row.id));
      }
    }
  }

  async #fetch(id: NodeId): Promise<void> {
    const row = this.#context.index.nodes.get(id);
    if (row === undefined || row.dirty) return;
    try {
      if (row.complete) await this.#contents.prefetch(id);
      else await this.#resolver.complete(row, true);
    } catch (error) {
      // Whoever reads the file meets the trouble, and is told.
      this.#context.log.debug({ name: row.name, error: String(error) }, 'read-ahead of a file failed');
    }
  }
}
