/**
 * Fills in, in the background, the metadata that listings do not give: one HEAD for each node that somebody looked at. Bounded in
 * length and in parallelism; what finds no room is asked for when it is looked at again. Whoever waits for the metadata of one file
 * after the other is waited for no longer than for a few.
 */
import type { NodeId } from '../base/ids.ts';
import type { NodeRow } from '../index/contract.ts';
import type { FsContext } from './context.ts';
import { isOutage } from './errors.ts';
import type { Lister } from './lister.ts';
import type { Resolver } from './resolver.ts';

const MAX_WAITING = 2000;
const MAX_RUNNING = 8;
/** Whoever walks directories (`ls -lR`) is let through first: the requests begin when nobody has looked, and nothing was listed, for so long. */
const QUIET_MS = 100;
/** Where it never becomes quiet, some are made all the same: so many each time. */
const PATIENCE_MS = 5_000;
const IMPATIENT_REQUESTS = 100;
/** So many of those that come next are asked for while somebody waits for one. */
const MAX_AHEAD = 32;

export class Completer {
  readonly #context: FsContext;
  readonly #resolver: Resolver;
  readonly #lister: Lister;
  readonly #waiting = new Set<NodeId>();
  readonly #ahead = new Set<NodeId>();
  #running = 0;
  #isClosed = false;
  #lastWantedAtMs = 0;
  #waitingSinceMs = 0;
  /** So many requests may still be made. */
  #allowance = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(context: FsContext, resolver: Resolver, lister: Lister) {
    this.#context = context;
    this.#resolver = resolver;
    this.#lister = lister;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  want(id: NodeId): void {
    const nowMs = this.#context.clock.monotonicMs();
    this.#lastWantedAtMs = nowMs;
    if (this.#isClosed || this.#waiting.size >= MAX_WAITING) return;
    if (this.#waiting.size === 0) this.#waitingSinceMs = nowMs;
    this.#waiting.add(id);
    this.#timer ??= setTimeout(() => this.#start(), QUIET_MS);
  }

  /**
   * Somebody who walks the directory waits for all that there is to know of this file (`ls -l` of coreutils 9.5 lists extended attributes): those
   * that follow are asked for beside it, or each would take a round trip of its own.
   */
  goAhead({ id, parent }: NodeRow): void {
    const { index } = this.#context;
    const directory = parent === undefined ? undefined : index.nodes.get(parent);
    if (directory === undefined || this.#isClosed || this.#ahead.size > MAX_AHEAD / 2) return;
    if (!this.#lister.isBeingWalked(directory)) return;
    for (const next of index.nodes.children(directory.id, id, MAX_AHEAD)) {
      if (next.complete || this.#ahead.has(next.id)) continue;
      this.#ahead.add(next.id);
      this.#waiting.delete(next.id);
      void this.#completeOne(next.id).finally(() => this.#ahead.delete(next.id));
    }
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#waiting.clear();
  }

  #start(): void {
    const nowMs = this.#context.clock.monotonicMs();
    // Whoever walks waits for it.
    if (this.#lister.isListing) this.#lastWantedAtMs = nowMs;
    const isQuiet = nowMs - this.#lastWantedAtMs >= QUIET_MS;
    const isOverdue = nowMs - this.#waitingSinceMs >= PATIENCE_MS;
    if (!isQuiet && !isOverdue) {
      this.#timer = setTimeout(() => this.#start(), QUIET_MS);
      return;
    }
    this.#timer = undefined;
    this.#waitingSinceMs = nowMs;
    this.#allowance = isQuiet ? MAX_WAITING : IMPATIENT_REQUESTS;
    while (this.#running < MAX_RUNNING && this.#running < this.#waiting.size) void this.#work();
  }

  async #work(): Promise<void> {
    this.#running += 1;
    for (const id of this.#waiting) {
      if (this.#allowance === 0) break;
      this.#allowance -= 1;
      this.#waiting.delete(id);
      await this.#completeOne(id);
    }
    this.#running -= 1;
    if (this.#waiting.size > 0 && !this.#isClosed) this.#timer ??= setTimeout(() => this.#start(), QUIET_MS);
  }

  async #completeOne(id: NodeId): Promise<void> {
    const before = this.#context.index.nodes.get(id);
    if (before === undefined || before.complete || before.parent === undefined) return;
    try {
      const after = await this.#resolver.complete(before);
      // Another node took the name (another version, or a listing cannot tell a symbolic link from a file): the kernel must look again.
      if (after.id !== id) this.#context.notifier.invalidateEntry(before.parent, before.name);
    } catch (error) {
      const level = isOutage(error) ? 'debug' : 'warn';
      this.#context.log[level]({ error: String(error), name: before.name }, 'metadata could not be read');
    }
  }
}
