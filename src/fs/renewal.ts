/** What is in use is renewed before it expires, and how long the kernel may believe what it is told follows from that. */
import type { NodeId } from '../base/ids.ts';
import { Revalidator } from '../freshness/revalidator.ts';
import { Watches } from '../freshness/watches.ts';
import type { NodeRow } from '../index/contract.ts';
import { allRows } from '../index/pages.ts';
import type { FsContext } from './context.ts';
import type { Lister } from './lister.ts';
import type { Resolver } from './resolver.ts';

/** What keeping names in use fresh may cost the bucket, and how many are kept fresh. */
const REQUESTS_PER_SECOND = 20;
const REVALIDATED_NAMES = 50_000;
/** Of the requests, what watched directories may take for themselves. */
const WATCH_SHARE = 1 / 4;
const WATCHED_FACT = 'watched directories';

export class Renewal {
  readonly #context: FsContext;
  readonly #revalidator: Revalidator;
  readonly #watches: Watches;

  constructor(context: FsContext, resolver: Resolver, lister: Lister) {
    this.#context = context;
    const { clock, log, beliefs } = context;
    const { expireMs } = beliefs;
    const budget = { expireMs, requestsPerSecond: REQUESTS_PER_SECOND, maxNames: REVALIDATED_NAMES };
    this.#revalidator = new Revalidator(clock, log, budget, {
      remainingMs: (id) => this.#renewableMs(id),
      revalidate: (id) => resolver.revalidate(id),
      refreshDirectory: (id) => lister.refreshIfSmall(id),
    });
    const maxDirectories = Math.floor((WATCH_SHARE * REQUESTS_PER_SECOND * expireMs) / 1000);
    this.#watches = new Watches(
      clock,
      log,
      { expireMs, maxDirectories },
      {
        listingRemainingMs: (id) => this.#listingRemainingMs(id),
        refreshDirectory: (id) => lister.refreshIfSmall(id),
        distrustNames: (id) => this.#distrustNames(id),
        bequeath: (ids) => this.#bequeath(ids),
      },
    );
  }

  /** Directories whose names the kernel believes for longer, as they are listed all the time. */
  get watchedDirectories(): number {
    return this.#watches.size;
  }

  /** A name was looked up. How long the kernel may believe it, ms, when the row holds for `remainingMs`. */
  noteLookup(parent: NodeId, row: NodeRow, remainingMs: number): number {
    const watchedMs = isWatchable(row) ? this.#watches.noteLookup(parent) : 0;
    if (watchedMs === 0) this.#revalidator.noteUse(parent, row.id);
    return Math.max(remainingMs, watchedMs);
  }

  /** How long the kernel may believe the attributes of a node, ms. */
  believedMs(row: NodeRow): number {
    const remainingMs = this.#context.beliefs.remainingMs(row);
    if (row.parent === undefined || !isWatchable(row)) return remainingMs;
    return Math.max(remainingMs, this.#watches.remainingMs(row.parent));
  }

  /** The kernel goes on from an earlier process, and believes what that one told it. */
  inherit(): void {
    const ids = this.#context.index.getFact(WATCHED_FACT)?.split(' ') ?? [];
    this.#watches.inherit(ids.map(Number).filter((id): id is NodeId => Number.isSafeInteger(id) && id > 0));
  }

  close(): void {
    this.#watches.close();
    this.#revalidator.close();
  }

  #renewableMs(id: NodeId): number | undefined {
    const row = this.#context.index.nodes.get(id);
    if (row === undefined || row.parent === undefined || row.dirty) return undefined;
    // Noted before its directory was watched, whose listing brings it along.
    if (isWatchable(row) && this.#watches.remainingMs(row.parent) > 0) return undefined;
    return this.#context.beliefs.remainingMs(row);
  }

  #listingRemainingMs(id: NodeId): number | undefined {
    const { index, beliefs } = this.#context;
    const row = index.nodes.get(id);
    if (row?.kind !== 'directory' || beliefs.isKnownLarge(id)) return undefined;
    return beliefs.listingRemainingMs(row);
  }

  #distrustNames(directory: NodeId): void {
    const { index, notifier } = this.#context;
    const children = allRows(
      (after, limit) => index.nodes.children(directory, after, limit),
      ({ id }) => id,
    );
    for (const { id, name } of children) {
      index.nodes.onChange(id);
      notifier.invalidateEntry(directory, name);
    }
  }

  #bequeath(ids: readonly NodeId[]): boolean {
    try {
      this.#context.index.setFact(WATCHED_FACT, ids.join(' '));
      return true;
    } catch (error) {
      this.#context.log.warn({ error }, 'cannot note which directories are in use');
      return false;
    }
  }
}

/** A listing tells when it changes: what it has itself, and Last-Modified for all else. */
function isWatchable({ kind, complete, dirty, etag }: NodeRow): boolean {
  return kind !== 'directory' && complete && !dirty && etag !== undefined;
}
