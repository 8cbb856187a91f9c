/**
 * Objects that lost their name and are being deleted. One unlink waits for the bucket and has its error. In a burst (`rm -r`) the
 * answer comes once the intent is journaled, so that hundreds of deletes share a request: until it is done the name stays gone here, and
 * nothing is written to its key.
 */
import type { NodeId } from '../base/ids.ts';
import { Semaphore } from '../base/semaphore.ts';
import { isStoreError } from '../store/contract.ts';
import type { FsContext } from './context.ts';

/** Unlinks that follow each other sooner are a burst. */
const BURST_GAP_MS = 50;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;
/** Deletes under way at once; further ones wait. Also the most that a crash leaves to be finished. */
const MAX_PENDING = 2000;

export interface DeletedName {
  readonly key: string;
  readonly parent: NodeId;
  readonly name: string;
}

export class Deletions {
  readonly #context: FsContext;
  readonly #pending = new Map<string, Promise<void>>();
  readonly #slots = new Semaphore(MAX_PENDING);
  #lastAtMs = Number.NEGATIVE_INFINITY;
  /** The last one failed: whoever deletes next is told. */
  #isFailing = false;

  constructor(context: FsContext) {
    this.#context = context;
  }

  /** Whether the bucket may still have an object under this key that is gone here. */
  isPending(key: string): boolean {
    return this.#pending.has(key);
  }

  /** Resolves when the key may be written to. */
  async settled(key: string): Promise<void> {
    await this.#pending.get(key);
  }

  /** Resolves when nothing below the prefix is waiting to be deleted. */
  async settledBelow(prefix: string): Promise<void> {
    await Promise.all([...this.#pending].filter(([key]) => key.startsWith(prefix)).map(([, done]) => done));
  }

  /** Goes on with what an earlier run had begun. Before anybody looks: the names stay gone until it is done. */
  recover(): void {
    for (const { id, action } of this.#context.journal.unfinished()) {
      if (action.kind !== 'delete') continue;
      const { key } = action;
      const done = this.#untilDone(key, id).then(() => {
        this.#pending.delete(key);
      });
      this.#pending.set(key, done);
    }
  }

  /** Call when the index is about to take the name away, holding the node's lock. */
  async delete(deleted: DeletedName): Promise<void> {
    const nowMs = this.#context.clock.monotonicMs();
    const isBurst = nowMs - this.#lastAtMs < BURST_GAP_MS;
    this.#lastAtMs = nowMs;
    if (!isBurst || this.#isFailing) return this.#once(deleted);
    await this.#slots.acquire();
    const { key, parent, name } = deleted;
    const { journal, beliefs } = this.#context;
    const done = this.#untilDone(key, journal.begin({ kind: 'delete', key })).then((isDone) => {
      // A listing that began before this still shows the name.
      if (isDone) beliefs.noteRemoved(parent, name);
      this.#slots.release();
      this.#pending.delete(key);
    });
    this.#pending.set(key, done);
  }

  /** The caller waits, and has the error. */
  async #once({ key }: DeletedName): Promise<void> {
    const { journal, mover } = this.#context;
    const intent = journal.begin({ kind: 'delete', key });
    try {
      await mover.delete(key);
      this.#isFailing = false;
    } finally {
      // After an error the name stays, and nothing may happen to it later.
      journal.done(intent);
    }
  }

  /** The caller has its answer: goes on until the bucket has done it, or refuses for good: false. Never rejects. */
  async #untilDone(key: string, intent: number): Promise<boolean> {
    const { journal, mover, log } = this.#context;
    let isDone = false;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2)) {
      try {
        await mover.delete(key);
        this.#isFailing = false;
        isDone = true;
        break;
      } catch (error) {
        this.#isFailing = true;
        const isTransient = isStoreError(error, 'Throttled', 'Unavailable', 'Timeout', 'Transport');
        log.error(
          { key, error: String(error) },
          isTransient ? 'could not delete yet' : 'could not delete; the name comes back',
        );
        if (!isTransient) break;
        journal.fail(intent, String(error));
        await new Promise((resolve) => setTimeout(resolve, pauseMs).unref());
      }
    }
    journal.done(intent);
    return isDone;
  }
}
