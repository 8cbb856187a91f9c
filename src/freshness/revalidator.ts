/**
 * Renews what is in use before it expires, off the request path: a hot file never waits for the bucket. One LIST where several names of a
 * directory are in use, a HEAD for each where few are, and never more requests than the budget allows: what finds no room is asked for by
 * whoever needs it next.
 */
import type { Clock } from '../base/clock.ts';
import type { NodeId } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';

export interface RevalidatorOptions {
  readonly expireMs: number;
  /** Requests that may be spent in each second. */
  readonly requestsPerSecond: number;
  /** Bound of the names watched; further ones are left to expire. */
  readonly maxNames: number;
}

/** What it may ask of others. */
export interface RevalidatorActions {
  /** How much longer the node is believed, ms; undefined: there is nothing to renew (gone, or changed here). */
  remainingMs(node: NodeId): number | undefined;
  revalidate(node: NodeId): Promise<void>;
  /** Lists the directory when that takes one page; false: it does not, and nothing was renewed. */
  refreshDirectory(directory: NodeId): Promise<boolean>;
}

/** Looks so often in one expiry time. */
const ROUNDS_PER_EXPIRY = 4;
/** Renews what will expire before the round after next. */
const MARGIN_ROUNDS = 2;
const NAMES_FOR_LISTING = 3;

export class Revalidator {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #options: RevalidatorOptions;
  readonly #actions: RevalidatorActions;
  /** Directory → nodes used since they were last renewed. */
  readonly #used = new Map<NodeId, Set<NodeId>>();
  readonly #roundMs: number;
  readonly #timer: NodeJS.Timeout;
  #names = 0;
  #isRunning = false;

  constructor(clock: Clock, log: Logger, options: RevalidatorOptions, actions: RevalidatorActions) {
    this.#clock = clock;
    this.#log = log;
    this.#options = options;
    this.#actions = actions;
    this.#roundMs = Math.max(50, options.expireMs / ROUNDS_PER_EXPIRY);
    this.#timer = setInterval(() => void this.round(), this.#roundMs);
    this.#timer.unref();
  }

  noteUse(directory: NodeId, node: NodeId): void {
    let nodes = this.#used.get(directory);
    if (nodes?.has(node)) return;
    if (this.#names >= this.#options.maxNames) return;
    if (nodes === undefined) {
      nodes = new Set();
      this.#used.set(directory, nodes);
    }
    nodes.add(node);
    this.#names += 1;
  }

  /** One look at everything in use. Rounds do not overlap. */
  async round(): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      await this.#renew((this.#options.requestsPerSecond * this.#roundMs) / 1000);
    } catch (error) {
      // The store's troubles: whoever needs the names meets them, and is told.
      this.#log.debug({ error: String(error) }, 'background revalidation failed');
    } finally {
      this.#isRunning = false;
    }
  }

  close(): void {
    clearInterval(this.#timer);
    this.#used.clear();
  }

  async #renew(budget: number): Promise<void> {
    let left = budget;
    const startedAtMs = this.#clock.monotonicMs();
    for (const [directory, nodes] of this.#used) {
      const due = this.#takeDue(directory, nodes);
      if (due.length === 0) continue;
      if (left < 1 || this.#clock.monotonicMs() - startedAtMs > this.#options.expireMs) return;
      if (due.length >= NAMES_FOR_LISTING) {
        left -= 1;
        if (await this.#actions.refreshDirectory(directory)) continue;
      }
      const affordable = due.slice(0, Math.max(0, Math.floor(left)));
      left -= affordable.length;
      await Promise.all(affordable.map((node) => this.#actions.revalidate(node)));
    }
  }

  /** Nodes that expire soon. They leave the set: only a further use brings them back. */
  #takeDue(directory: NodeId, nodes: Set<NodeId>): NodeId[] {
    const due: NodeId[] = [];
    for (const node of nodes) {
      const remainingMs = this.#actions.remainingMs(node);
      if (remainingMs !== undefined && remainingMs > MARGIN_ROUNDS * this.#roundMs) continue;
      nodes.delete(node);
      this.#names -= 1;
      // Already expired: nobody used it for long enough.
      if (remainingMs !== undefined && remainingMs > 0) due.push(node);
    }
    if (nodes.size === 0) this.#used.delete(directory);
    return due;
  }
}
