/**
 * Who may still be believed. Positive facts (a row of the index) hold for `expireMs` after the bucket vouched for them, and longer where
 * listing the directory takes long; a missing name for `negativeMs`. Also remembers names removed here, because a listing that began before
 * the removal still shows them, and how often single names of a directory had to be asked for or were made, because one LIST vouches for a
 * thousand.
 *
 * Knows rows and names; neither wire bytes nor the SDK.
 */
import type { StampClock } from '../base/clock.ts';
import { type NodeId, ROOT_NODE_ID } from '../base/ids.ts';
import { RecentMap } from '../base/recent-map.ts';
import type { NodeRow } from '../index/contract.ts';
import { Making } from './making.ts';
import { Steps } from './steps.ts';

export interface BeliefOptions {
  readonly expireMs: number;
  readonly negativeMs: number;
  /** Bound of each table here, in names. */
  readonly maxNames: number;
}

/** So many single requests for names of one directory within one expiry time make a LIST the cheaper answer. */
const PROBES_BEFORE_LIST = 2;

/** A directory in which so many names are made for each page of its listing, within the time that a missing name holds, is listed as a whole. */
const MADE_FOR_A_PAGE = 6;
/** It is listed again when so much of that time is left, so that nobody has to wait for it. */
const RENEWAL_PART = 0.25;

/** A listing may run for so long and still show what was removed after it began. */
const REMOVAL_MEMORY_MS = 600_000;

/**
 * What a listing told is believed for at least so many times as long as the listing took, from its beginning. In a directory of a hundred thousand
 * names the first would else be too old before the last is known, and whoever walks it would have to ask for each.
 */
const BELIEVED_PER_LISTING = 3;

/** What a listing that took long told, by its stamp, and for how long it is believed. */
interface LongListing {
  readonly startedAtMs: number;
  readonly believedMs: number;
}

interface DirectoryHeat {
  probes: number;
  sinceMs: number;
}

export class Beliefs {
  readonly #clock: StampClock;
  readonly #options: BeliefOptions;
  readonly #missingUntil: RecentMap<string, number>;
  readonly #removedAt: RecentMap<string, number>;
  readonly #heat: RecentMap<NodeId, DirectoryHeat>;
  /** Of its listing, as far as known. */
  readonly #pages: RecentMap<NodeId, number>;
  readonly #longListings: RecentMap<NodeId, LongListing>;
  readonly #making: Making;
  readonly #markersSeenAt: RecentMap<NodeId, number>;
  readonly #walkedAt: RecentMap<NodeId, number>;
  readonly #vouchedAt: RecentMap<NodeId, number>;
  readonly #steps: Steps;
  #trustedFromMs = 0;

  constructor(clock: StampClock, options: BeliefOptions) {
    this.#clock = clock;
    this.#options = options;
    this.#missingUntil = new RecentMap(options.maxNames);
    this.#removedAt = new RecentMap(options.maxNames);
    this.#heat = new RecentMap(options.maxNames);
    this.#pages = new RecentMap(options.maxNames);
    this.#longListings = new RecentMap(options.maxNames);
    this.#making = new Making(options.negativeMs, options.maxNames);
    this.#markersSeenAt = new RecentMap(options.maxNames);
    this.#walkedAt = new RecentMap(options.maxNames);
    this.#vouchedAt = new RecentMap(options.maxNames);
    this.#steps = new Steps(options.expireMs, options.maxNames);
  }

  /** After a crash: the bucket may have done what the index was not told of, so nothing that was noted until now is believed. */
  distrust(): void {
    this.#trustedFromMs = this.#clock.stampMs();
  }

  get expireMs(): number {
    return this.#options.expireMs;
  }

  /** How much longer the row holds, ms; 0: ask the bucket. What only this mount knows (dirty) holds without end. */
  remainingMs(row: Pick<NodeRow, 'id' | 'parent' | 'kind' | 'validatedAtMs' | 'dirty'>): number {
    if (row.dirty || row.id === ROOT_NODE_ID) return this.#options.expireMs;
    const byRow = this.#remaining(row.validatedAtMs, this.#spanMs(row.parent, row.validatedAtMs));
    if (row.kind !== 'directory') return byRow;
    // The parent's listing shows that a directory exists, but nothing of its marker, which holds its mode and times.
    const markerSeenAtMs = this.#markersSeenAt.get(row.id) ?? 0;
    return Math.min(byRow, this.#remaining(markerSeenAtMs, this.#options.expireMs));
  }

  /** The directory's marker object (or its absence) was seen in an answer to a question asked at `askedAtMs`. */
  noteMarkerSeen(directory: NodeId, askedAtMs: number): void {
    this.#markersSeenAt.set(directory, askedAtMs);
  }

  isListingFresh(directory: Pick<NodeRow, 'id' | 'listedAtMs'>): boolean {
    return this.listingRemainingMs(directory) > 0;
  }

  /** How much longer the directory's listing holds, ms. */
  listingRemainingMs({ id, listedAtMs }: Pick<NodeRow, 'id' | 'listedAtMs'>): number {
    return this.#remaining(listedAtMs, this.#spanMs(id, listedAtMs));
  }

  /** A listing of several pages, begun at `startedAtMs`, has come so far, or to its end. */
  noteListing(directory: NodeId, startedAtMs: number): void {
    const tookMs = this.#clock.stampMs() - startedAtMs;
    const believedMs = Math.min(BELIEVED_PER_LISTING * tookMs, REMOVAL_MEMORY_MS);
    if (believedMs > this.#options.expireMs) this.#longListings.set(directory, { startedAtMs, believedMs });
  }

  /** Somebody reads the directory, or goes on to look at what it told. */
  noteWalk(directory: NodeId): void {
    this.#walkedAt.set(directory, this.#clock.stampMs());
  }

  /**
   * Somebody read the directory lately, and what its listing told of its files will do for a first answer: `ls -l` must not wait for
   * the metadata of each. Who asks for a single name gets all that the bucket knows of it. `isBeingListed`: pages of it are arriving now.
   */
  isBeingWalked(directory: Pick<NodeRow, 'id' | 'listedAtMs'>, isBeingListed: boolean): boolean {
    const { expireMs } = this.#options;
    const isVouchedFor = this.#remaining(this.#vouchedAt.get(directory.id) ?? 0, expireMs) > 0;
    if (!isBeingListed && !isVouchedFor && !this.isListingFresh(directory)) return false;
    return this.#remaining(this.#walkedAt.get(directory.id) ?? 0, expireMs) > 0;
  }

  /** A name of a directory that needs several pages has to be asked for. See `Steps.note`. */
  noteStep(directory: NodeId, name: string): string | undefined {
    return this.#steps.note(directory, name, this.#clock.stampMs());
  }

  /** The page that `noteStep` led to, asked for at `askedAtMs`, vouches for those names up to this one that are known. */
  notePage(directory: NodeId, name: string, askedAtMs: number): void {
    this.#steps.notePage(directory, name, askedAtMs);
    this.#vouchedAt.set(directory, askedAtMs);
    this.#walkedAt.set(directory, askedAtMs);
  }

  /** It did not reach the name that was asked for. */
  noteUselessPage(directory: NodeId): void {
    this.#steps.noteUselessPage(directory);
  }

  /** Listed so lately that even names nobody has asked for are known to be missing. */
  isWhollyKnown(directory: Pick<NodeRow, 'listedAtMs'>): boolean {
    return this.#remaining(directory.listedAtMs, this.#options.negativeMs) > 0;
  }

  /** How much longer a name without a row may be called missing, ms; 0: not known to be missing. */
  missingMs(directory: Pick<NodeRow, 'id' | 'listedAtMs'>, name: string): number {
    const until = this.#missingUntil.get(nameKey(directory.id, name)) ?? 0;
    const byName = Math.min(until - this.#clock.stampMs(), this.#options.negativeMs);
    return Math.max(0, byName, this.#remaining(directory.listedAtMs, this.#options.negativeMs));
  }

  noteMissing(parent: NodeId, name: string, askedAtMs: number): void {
    this.#missingUntil.set(nameKey(parent, name), askedAtMs + this.#options.negativeMs);
  }

  /** The name exists again (it was made here). */
  notePresent(parent: NodeId, name: string): void {
    const key = nameKey(parent, name);
    this.#missingUntil.delete(key);
    this.#removedAt.delete(key);
  }

  /** The name was removed here, just now. */
  noteRemoved(parent: NodeId, name: string): void {
    const key = nameKey(parent, name);
    this.#removedAt.set(key, this.#clock.stampMs());
    this.#missingUntil.set(key, this.#clock.stampMs() + this.#options.negativeMs);
  }

  /** Whether an answer to a question asked at `askedAtMs` is outdated by a removal made here since. */
  wasRemovedSince(parent: NodeId, name: string, askedAtMs: number): boolean {
    const removedAtMs = this.#removedAt.get(nameKey(parent, name));
    if (removedAtMs === undefined) return false;
    return removedAtMs >= askedAtMs && this.#clock.stampMs() - removedAtMs < REMOVAL_MEMORY_MS;
  }

  /** A listing of the directory has so many pages, or more where it has not ended. */
  notePages(directory: NodeId, pages: number, hasEnded: boolean): void {
    this.#pages.set(directory, hasEnded ? pages : Math.max(pages, this.#pages.get(directory) ?? 0));
  }

  /** It needs several pages. */
  isKnownLarge(directory: NodeId): boolean {
    return (this.#pages.get(directory) ?? 0) > 1;
  }

  /** A name was made here. */
  noteMade(parent: NodeId): void {
    this.#making.note(parent, this.#clock.stampMs());
  }

  /**
   * So many names are made in the directory that listing all of it is cheaper than to ask for each whether it is missing. Only where it was listed
   * before.
   */
  isFilling(directory: Pick<NodeRow, 'id' | 'listedAtMs'>): boolean {
    if (directory.listedAtMs === 0) return false;
    const pages = Math.max(1, this.#pages.get(directory.id) ?? 0);
    return this.#making.rate(directory.id, this.#clock.stampMs()) >= MADE_FOR_A_PAGE * pages;
  }

  /** The same, and what the listing tells of missing names will soon be too old. */
  wantsListingSoon(directory: Pick<NodeRow, 'id' | 'listedAtMs'>): boolean {
    const { negativeMs } = this.#options;
    const remainingMs = this.#remaining(directory.listedAtMs, negativeMs);
    return remainingMs > 0 && remainingMs < RENEWAL_PART * negativeMs && this.isFilling(directory);
  }

  /**
   * A single name of the directory has to be asked for. Returns true when a LIST of the directory should be made instead: lately more names were
   * asked for than it has pages.
   */
  prefersListing(directory: NodeId): boolean {
    const nowMs = this.#clock.stampMs();
    const heat = this.#heat.get(directory);
    if (heat === undefined || nowMs - heat.sinceMs > this.#options.expireMs) {
      this.#heat.set(directory, { probes: 1, sinceMs: nowMs });
      return false;
    }
    heat.probes += 1;
    return heat.probes > Math.max(PROBES_BEFORE_LIST, this.#pages.get(directory) ?? 0);
  }

  /** How long is believed what was seen at `sinceMs` in a directory. */
  #spanMs(directory: NodeId | undefined, sinceMs: number): number {
    const long = directory === undefined ? undefined : this.#longListings.get(directory);
    return sinceMs === long?.startedAtMs ? long.believedMs : this.#options.expireMs;
  }

  #remaining(sinceMs: number, spanMs: number): number {
    const nowMs = this.#clock.stampMs();
    if (sinceMs < this.#trustedFromMs) return 0;
    const ageMs = nowMs - sinceMs;
    return ageMs < 0 ? 0 : Math.max(0, spanMs - ageMs);
  }
}

function nameKey(parent: NodeId, name: string): string {
  return `${parent}/${name}`;
}
