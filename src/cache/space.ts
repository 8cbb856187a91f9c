/** The limits of the cache: bytes in all, free space left to others. Bytes are reserved before they are written. */
import { statfs } from 'node:fs/promises';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import { BLOCK_BYTES } from './contract.ts';
import { errorCode } from './files.ts';

/** How long an answer of statfs(2) is used; what is written meanwhile is subtracted from it. */
const STATFS_MS = 1000;
/** After a failure nothing is tried for so long: a full disk must not cost every reader a search for victims. */
const PAUSE_MS = 1000;
/** Evict somewhat more than is needed, so that not every block has to look for victims. */
const EVICTION_SLACK = 1 / 64;

export interface SpaceOptions {
  readonly directory: string;
  readonly limitBytes: number;
  readonly minFreeBytes: number;
  /** What is on disk at the start. */
  readonly usedBytes: number;
  readonly clock: Clock;
  readonly log: Logger;
  /** Frees about so many bytes, and says with `release` what it freed. False: nothing is left that may go. */
  readonly evict: (bytes: number) => Promise<boolean>;
}

export class Space {
  readonly #options: SpaceOptions;
  /** Invariant: at least what blocks take on disk, and at most `limitBytes` except right after a start with a smaller limit. */
  #usedBytes: number;
  #freeBytes = 0;
  #freeAtMs = Number.NEGATIVE_INFINITY;
  #pausedUntilMs = Number.NEGATIVE_INFINITY;
  #inTrouble = false;
  /** Makers of room, one after the other. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(options: SpaceOptions) {
    this.#options = options;
    this.#usedBytes = options.usedBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** `newBytes`: how many of them the disk does not hold yet. */
  async reserve(bytes: number, newBytes = bytes): Promise<boolean> {
    if (this.#isPaused || bytes > this.#options.limitBytes) return false;
    if (this.#isFreeKnown && this.#take(bytes, newBytes)) return true;
    const room = this.#queue.then(() => this.#makeRoom(bytes, newBytes));
    this.#queue = room.catch(() => {});
    return room;
  }

  release(bytes: number): void {
    this.#usedBytes -= bytes;
    this.#freeAtMs = Number.NEGATIVE_INFINITY;
    this.resume();
  }

  /** Something changed that may have made room: try again at once. */
  resume(): void {
    this.#pausedUntilMs = Number.NEGATIVE_INFINITY;
  }

  /** The disk refused a write. Said once; then nothing is tried for a while. */
  noteTrouble(error: unknown): void {
    this.#pause({ code: errorCode(error) ?? String(error) });
  }

  noteWritten(): void {
    if (this.#inTrouble) this.#options.log.info('the cache takes blocks again');
    this.#inTrouble = false;
  }

  get #isPaused(): boolean {
    return this.#options.clock.monotonicMs() < this.#pausedUntilMs;
  }

  get #isFreeKnown(): boolean {
    return this.#options.clock.monotonicMs() - this.#freeAtMs < STATFS_MS;
  }

  #shortage(bytes: number, newBytes: number): number {
    const { limitBytes, minFreeBytes } = this.#options;
    return Math.max(this.#usedBytes + bytes - limitBytes, minFreeBytes + newBytes - this.#freeBytes);
  }

  #take(bytes: number, newBytes: number): boolean {
    if (this.#shortage(bytes, newBytes) > 0) return false;
    this.#usedBytes += bytes;
    this.#freeBytes -= newBytes;
    return true;
  }

  async #makeRoom(bytes: number, newBytes: number): Promise<boolean> {
    try {
      while (!this.#isPaused) {
        if (!this.#isFreeKnown) await this.#askFree();
        if (this.#take(bytes, newBytes)) return true;
        const slackBytes = Math.floor((this.#options.limitBytes * EVICTION_SLACK) / BLOCK_BYTES) * BLOCK_BYTES;
        if (!(await this.#options.evict(this.#shortage(bytes, newBytes) + slackBytes))) {
          this.#pause({ usedBytes: this.#usedBytes, freeBytes: this.#freeBytes });
        }
      }
    } catch (error) {
      this.noteTrouble(error);
    }
    return false;
  }

  async #askFree(): Promise<void> {
    const stats = await statfs(this.#options.directory).catch((error: unknown) => {
      // Removed with rm -r: the first write makes it again, on whatever is above it.
      if (errorCode(error) === 'ENOENT') return undefined;
      throw error;
    });
    this.#freeBytes = stats === undefined ? Number.POSITIVE_INFINITY : stats.bavail * stats.bsize;
    this.#freeAtMs = this.#options.clock.monotonicMs();
  }

  #pause(reason: object): void {
    this.#pausedUntilMs = this.#options.clock.monotonicMs() + PAUSE_MS;
    if (!this.#inTrouble)
      this.#options.log.warn(reason, 'the cache cannot keep blocks now; they are served from memory');
    this.#inTrouble = true;
  }
}
