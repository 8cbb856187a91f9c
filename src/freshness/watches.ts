/**
 * Directories in heavy use, which are listed again each time before their listing expires, for as long as the kernel may believe their names
 * without asking: it is told what has changed. So a thousand hot files cost one LIST in each expiry time and no lookup, where each lookup would
 * wake two threads. Only directories whose listing is one page.
 */
import type { Clock } from '../base/clock.ts';
import type { NodeId } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';
import { RecentMap } from '../base/recent-map.ts';

export interface WatchOptions {
  readonly expireMs: number;
  readonly maxDirectories: number;
}

/** What it may ask of others. */
export interface WatchActions {
  /** How much longer the directory's listing is believed, ms; undefined: it is gone, or more than one page. */
  listingRemainingMs(directory: NodeId): number | undefined;
  /** Lists the directory and tells the kernel what has changed. False: it is more than one page now. */
  refreshDirectory(directory: NodeId): Promise<boolean>;
  /** The kernel must ask again for every name of the directory. */
  distrustNames(directory: NodeId): void;
  /** What a successor of this process has to watch, as its kernel goes on believing. False when that cannot be written down. */
  bequeath(directories: readonly NodeId[]): boolean;
}

/** The kernel believes a watched name for so many expiry times. */
const BELIEVED_EXPIRIES = 6;
/** Less than that is asked for in the time in which it may be believed: not worth a LIST in each expiry time. */
const BUSY_LOOKUPS = 16;
/** Looks so often in one expiry time, and renews what would expire before the look after next. */
const ROUNDS_PER_EXPIRY = 8;
const MARGIN_ROUNDS = 2;
/** Shorter expiry times are for those who want to ask. */
const EXPIRY_MIN_MS = 500;
const COUNTED_DIRECTORIES = 1024;

interface Use {
  lookups: number;
  sinceMs: number;
}

interface Watch extends Use {
  /** The kernel may believe names until then. */
  untilMs: number;
  isBusy: boolean;
  isBeingListed: boolean;
}

export class Watches {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #options: WatchOptions;
  readonly #actions: WatchActions;
  readonly #believedMs: number;
  readonly #roundMs: number;
  readonly #uses = new RecentMap<NodeId, Use>(COUNTED_DIRECTORIES);
  readonly #watches = new Map<NodeId, Watch>();
  readonly #timer: NodeJS.Timeout;

  constructor(clock: Clock, log: Logger, options: WatchOptions, actions: WatchActions) {
    this.#clock = clock;
    this.#log = log;
    this.#options = options;
    this.#actions = actions;
    this.#believedMs = options.expireMs * BELIEVED_EXPIRIES;
    this.#roundMs = options.expireMs / ROUNDS_PER_EXPIRY;
    this.#timer = setInterval(() => this.round(), Math.max(EXPIRY_MIN_MS / ROUNDS_PER_EXPIRY, this.#roundMs)).unref();
  }

  get size(): number {
    return this.#watches.size;
  }

  /** To be called for each lookup of a file in the directory. How long the kernel may believe what it is told, ms; 0: as long as the row holds. */
  noteLookup(directory: NodeId): number {
    if (this.#options.expireMs < EXPIRY_MIN_MS) return 0;
    const nowMs = this.#clock.monotonicMs();
    const watch = this.#watches.get(directory) ?? this.#begin(directory, nowMs);
    if (watch === undefined) return 0;
    if (nowMs - watch.sinceMs >= this.#believedMs) {
      watch.isBusy = watch.lookups >= BUSY_LOOKUPS;
      watch.lookups = 0;
      watch.sinceMs = nowMs;
    }
    watch.lookups += 1;
    // A store that does not answer leaves the listing to expire.
    if (!watch.isBusy || (this.#actions.listingRemainingMs(directory) ?? 0) <= 0) return 0;
    watch.untilMs = nowMs + this.#believedMs;
    return this.#believedMs;
  }

  /** How long names of the directory that the kernel is told now will be looked after, ms. */
  remainingMs(directory: NodeId): number {
    const watch = this.#watches.get(directory);
    if (watch === undefined || (this.#actions.listingRemainingMs(directory) ?? 0) <= 0) return 0;
    return Math.max(0, watch.untilMs - this.#clock.monotonicMs());
  }

  /** An earlier process told the kernel to believe names of these directories. */
  inherit(directories: readonly NodeId[]): void {
    const nowMs = this.#clock.monotonicMs();
    for (const directory of directories) this.#watches.set(directory, createWatch(nowMs, nowMs + this.#believedMs));
  }

  /** One look at everything that is watched. */
  round(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [directory, watch] of this.#watches) {
      if (watch.isBeingListed) continue;
      const remainingMs = this.#actions.listingRemainingMs(directory);
      if (watch.untilMs <= nowMs) this.#end(directory);
      else if (remainingMs === undefined) this.#abandon(directory);
      else if (remainingMs <= MARGIN_ROUNDS * this.#roundMs) void this.#refresh(directory, watch);
    }
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #begin(directory: NodeId, nowMs: number): Watch | undefined {
    const use = this.#uses.get(directory);
    if (use === undefined || nowMs - use.sinceMs >= this.#options.expireMs) {
      this.#uses.set(directory, { lookups: 1, sinceMs: nowMs });
      return undefined;
    }
    use.lookups += 1;
    if (use.lookups < BUSY_LOOKUPS || this.#watches.size >= this.#options.maxDirectories) return undefined;
    if ((this.#actions.listingRemainingMs(directory) ?? 0) <= 0) return undefined;
    const watch = createWatch(nowMs, nowMs);
    this.#watches.set(directory, watch);
    if (this.#bequeath()) return watch;
    this.#watches.delete(directory);
    return undefined;
  }

  async #refresh(directory: NodeId, watch: Watch): Promise<void> {
    watch.isBeingListed = true;
    try {
      if (!(await this.#actions.refreshDirectory(directory))) this.#abandon(directory);
    } catch (error) {
      // What cannot be asked is believed: reads go on while the store is away.
      this.#log.debug({ error: String(error) }, 'a directory in use could not be listed');
    } finally {
      watch.isBeingListed = false;
    }
  }

  #abandon(directory: NodeId): void {
    this.#end(directory);
    this.#actions.distrustNames(directory);
  }

  #end(directory: NodeId): void {
    this.#watches.delete(directory);
    this.#bequeath();
  }

  #bequeath(): boolean {
    return this.#actions.bequeath([...this.#watches.keys()]);
  }
}

function createWatch(sinceMs: number, untilMs: number): Watch {
  return { lookups: 0, sinceMs, untilMs, isBusy: true, isBeingListed: false };
}
