/** Directory listings: one job at a time for each directory, page by page into the index, changes told to the kernel. */

import { type NodeId, ROOT_NODE_ID } from '../base/ids.ts';
import { SingleFlight } from '../base/locks.ts';
import type { ListedName, NodeRow, Sweep } from '../index/contract.ts';
import { type ListedObject, PAGE_ENTRIES } from '../store/contract.ts';
import type { Backlog } from './backlog.ts';
import type { FsContext } from './context.ts';
import { FsError, isRefusal } from './errors.ts';
import type { HiddenHere, HiddenKeys } from './hidden-keys.ts';
import { type ParsedPage, parseListing } from './names.ts';
import type { Retirement } from './retirement.ts';
import type { Tree } from './tree.ts';

export interface ListingProgress {
  /** Resolves when one more page is in the index, or the listing ended; rejects with the listing. */
  nextPage(): Promise<void>;
  readonly isDone: boolean;
}

class ListingJob implements ListingProgress {
  isDone = false;
  #wake: (() => void)[] = [];
  #error: unknown;

  nextPage(): Promise<void> {
    if (this.isDone) return this.#error === undefined ? Promise.resolve() : Promise.reject(this.#error);
    return new Promise((resolve, reject) => {
      this.#wake.push(() => (this.#error === undefined ? resolve() : reject(this.#error)));
    });
  }

  page(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  end(error: unknown): void {
    this.isDone = true;
    this.#error = error;
    this.page();
  }
}

export class Lister {
  readonly #context: FsContext;
  readonly #tree: Tree;
  readonly #retirement: Retirement;
  readonly #backlog: Backlog;
  readonly #hidden: HiddenKeys;
  readonly #flights = new SingleFlight<NodeId, boolean>();
  readonly #jobs = new Map<NodeId, ListingJob>();
  readonly #vouching = new SingleFlight<NodeId, void>();

  constructor(context: FsContext, tree: Tree, retirement: Retirement, backlog: Backlog, hidden: HiddenKeys) {
    this.#backlog = backlog;
    this.#hidden = hidden;
    this.#context = context;
    this.#tree = tree;
    this.#retirement = retirement;
  }

  /** Lists the whole directory, or joins the listing that runs. ENOENT when it turns out not to exist any more. */
  async refresh(directory: NodeId): Promise<void> {
    await this.#start(directory, Number.POSITIVE_INFINITY);
  }

  /** The same, but gives up after one page if more follow; false then, and the directory is noted as large. */
  refreshIfSmall(directory: NodeId): Promise<boolean> {
    return this.#start(directory, 1);
  }

  /**
   * Has one page of the listing, from behind `after` on, vouch for those of its names that are known, of which `name` should be one; or waits for
   * the page that is asked for already. It tells nothing of names that it does not have, and a store that refuses it vouches for none.
   */
  vouch(directory: NodeId, after: string, name: string): Promise<void> {
    return this.#vouching.run(directory, () =>
      this.#vouch(directory, after, name).catch((error: unknown) => {
        if (!isRefusal(error)) throw error;
        this.#context.beliefs.noteUselessPage(directory);
      }),
    );
  }

  /** Starts a listing (or joins it) whose pages can be read as they arrive. */
  stream(directory: NodeId): ListingProgress {
    void this.#start(directory, Number.POSITIVE_INFINITY).catch(() => undefined); // The job carries the error.
    const job = this.#jobs.get(directory);
    if (job === undefined) throw new FsError('EIO', 'listing did not start');
    return job;
  }

  /** The listing of the directory that runs now, if one does. */
  running(directory: NodeId): ListingProgress | undefined {
    return this.#jobs.get(directory);
  }

  /** Some directory is being listed now. */
  get isListing(): boolean {
    return this.#jobs.size > 0;
  }

  /** See `Beliefs.isBeingWalked`. */
  isBeingWalked(directory: NodeRow): boolean {
    return this.#context.beliefs.isBeingWalked(directory, this.#jobs.has(directory.id));
  }

  async #start(directory: NodeId, maxPages: number): Promise<boolean> {
    const done = await this.#flights.run(directory, () => this.#run(directory, maxPages));
    // Joined a short one, but wanted all.
    if (!done && maxPages > 1) return this.#flights.run(directory, () => this.#run(directory, maxPages));
    return done;
  }

  async #vouch(directory: NodeId, after: string, name: string): Promise<void> {
    const { store, clock, beliefs, index } = this.#context;
    const prefix = this.#tree.prefixOf(directory);
    const startedAtMs = clock.stampMs();
    for await (const page of store.list({ prefix, delimiter: '/', after: prefix + after, limit: PAGE_ENTRIES })) {
      if (index.nodes.get(directory) === undefined || this.#tree.prefixOf(directory) !== prefix) return;
      const parsed = parseListing(prefix, page);
      const names = parsed.names.filter((listed) => index.nodes.child(directory, listed.name) !== undefined);
      this.#apply(directory, { ...parsed, names }, startedAtMs);
      const last = page.objects.at(-1)?.key.slice(prefix.length);
      if (last === undefined || last < name) beliefs.noteUselessPage(directory);
      else beliefs.notePage(directory, last, startedAtMs);
    }
  }

  async #run(directory: NodeId, maxPages: number): Promise<boolean> {
    const job = new ListingJob();
    this.#jobs.set(directory, job);
    try {
      const isWhole = await this.#list(directory, maxPages, job);
      job.end(undefined);
      return isWhole;
    } catch (error) {
      job.end(error);
      throw error;
    } finally {
      this.#jobs.delete(directory);
    }
  }

  async #list(directory: NodeId, maxPages: number, job: ListingJob): Promise<boolean> {
    const { store, clock, beliefs, index } = this.#context;
    const prefix = this.#tree.prefixOf(directory);
    const startedAtMs = clock.stampMs();
    let pages = 0;
    let isEmpty = true;
    // What was added is no change for those who read the first listing as it arrives: they find it further on.
    let hasChanged = false;
    const isFirst = index.nodes.get(directory)?.listedAtMs === 0;
    let marker: ListedObject | undefined;
    let hidden: HiddenHere = { skipped: 0, shadowed: 0, sample: undefined };
    for await (const page of store.list({ prefix, delimiter: '/' })) {
      // Said before all pages are there: those who read them as they arrive need to know how much to believe.
      if (pages > 0) beliefs.notePages(directory, pages + 1, false);
      if (pages === maxPages) return false;
      pages += 1;
      if (index.nodes.get(directory) === undefined || this.#tree.prefixOf(directory) !== prefix)
        throw new FsError('ESTALE');
      const parsed = parseListing(prefix, page);
      hidden = {
        skipped: hidden.skipped + parsed.skipped,
        shadowed: hidden.shadowed + parsed.shadowed,
        sample: hidden.sample ?? parsed.sample,
      };
      marker ??= parsed.marker;
      isEmpty &&= parsed.names.length === 0 && parsed.marker === undefined && parsed.skipped === 0;
      const { added, replaced } = this.#apply(directory, parsed, startedAtMs);
      if (replaced > 0 || (added > 0 && !isFirst)) hasChanged = true;
      if (pages > 1) beliefs.noteListing(directory, startedAtMs);
      job.page();
    }
    if (await this.#sweep(directory, startedAtMs)) hasChanged = true;
    beliefs.notePages(directory, pages, true);
    this.#hidden.note(directory, hidden);
    this.#finish(directory, { marker, isEmpty, hasChanged, startedAtMs });
    return true;
  }

  /** Counts of names. */
  #apply(directory: NodeId, parsed: ParsedPage, startedAtMs: number): { added: number; replaced: number } {
    const { beliefs, index, notifier } = this.#context;
    const prefix = this.#tree.prefixOf(directory);
    const isGone = ({ name }: ListedName) =>
      beliefs.wasRemovedSince(directory, name, startedAtMs) || this.#backlog.isPending(prefix + name);
    const names = parsed.names.filter((entry) => !isGone(entry));
    const { replacements, questioned, added } = index.nodes.applyListing(directory, names, startedAtMs);
    for (const { name } of questioned) notifier.invalidateEntry(directory, name);
    for (const { name, oldId } of replacements) {
      notifier.invalidateEntry(directory, name);
      this.#retirement.retireId(oldId);
    }
    return { added, replaced: replacements.length };
  }

  /** Rows that no page named are gone from the bucket. In pieces, so that a large directory does not stop everything else. */
  async #sweep(directory: NodeId, startedAtMs: number): Promise<boolean> {
    const { index, notifier } = this.#context;
    let hasChanged = false;
    let next: number | undefined = 0;
    while (next !== undefined) {
      const swept: Sweep = index.nodes.sweep(directory, startedAtMs, next);
      for (const row of swept.detached) {
        hasChanged = true;
        notifier.invalidateEntry(directory, row.name);
        this.#retirement.retire(row);
      }
      next = swept.next;
      if (next !== undefined) await new Promise((resolve) => setImmediate(resolve));
    }
    return hasChanged;
  }

  #finish(
    directory: NodeId,
    result: { marker: ListedObject | undefined; isEmpty: boolean; hasChanged: boolean; startedAtMs: number },
  ): void {
    const { index, beliefs, notifier } = this.#context;
    const row = index.nodes.get(directory);
    if (row === undefined) return;
    if (result.isEmpty && directory !== ROOT_NODE_ID && row.validatedAtMs < result.startedAtMs && !row.dirty) {
      // No marker and nothing below: the prefix, and with it the implied directory, is gone.
      if (row.parent !== undefined) notifier.invalidateEntry(row.parent, row.name);
      this.#retirement.retire(row);
      throw new FsError('ENOENT');
    }
    index.nodes.update(directory, {
      listedAtMs: result.startedAtMs,
      ...markerChange(row, result.marker, result.startedAtMs),
    });
    beliefs.noteMarkerSeen(directory, result.startedAtMs);
    if (result.hasChanged) notifier.invalidateNode(directory, 0, 0);
  }
}

/** What the marker in a directory's own listing says of the directory: same time of modification, same metadata. */
function markerChange(row: NodeRow, marker: ListedObject | undefined, startedAtMs: number): Partial<NodeRow> {
  if (marker === undefined || row.validatedAtMs >= startedAtMs) return {};
  const isUnchanged = row.lastModifiedMs === undefined || row.lastModifiedMs === marker.lastModifiedMs;
  return {
    marker: row.marker ?? '',
    etag: marker.etag,
    lastModifiedMs: marker.lastModifiedMs,
    validatedAtMs: startedAtMs,
    ...(isUnchanged && row.marker !== undefined ? {} : { complete: false }),
  };
}
