/**
 * Objects that lost their name and are being deleted. One unlink waits for the bucket and has its error. In a burst (`rm -r`) the
 * answer comes once the intent is journaled, so that hundreds of deletes share a request: until it is done the name stays gone here, and
 * nothing is written to its key.
 */
import { faultPoint } from '../base/fault-points.ts';
import type { NodeId } from '../base/ids.ts';
import { Semaphore } from '../base/semaphore.ts';
import type { Backlog } from './backlog.ts';
import type { FsContext } from './context.ts';
import { isRefusal } from './errors.ts';

/** An unlink that follows the answer to the one before sooner makes a burst. */
const BURST_GAP_MS = 50;
/** It goes on until nobody unlinks for so long: a busy machine makes pauses. */
const BURST_END_MS = 1000;
/** Deletes under way at once; further ones wait. Also the most that a crash leaves to be finished. */
const MAX_PENDING = 2000;

export interface DeletedName {
  readonly key: string;
  readonly etag: string;
  readonly parent: NodeId;
  readonly name: string;
}

export class Deletions {
  readonly #context: FsContext;
  readonly #backlog: Backlog;
  readonly #slots = new Semaphore(MAX_PENDING);
  #lastAtMs = Number.NEGATIVE_INFINITY;
  #lastParent: NodeId | undefined;
  #isBurst = false;
  /** The last one failed: whoever deletes next is told. */
  #isFailing = false;

  constructor(context: FsContext, backlog: Backlog) {
    this.#context = context;
    this.#backlog = backlog;
  }

  /** Many names are going at this moment. */
  get isBurst(): boolean {
    return this.#isBurst && this.#context.clock.monotonicMs() - this.#lastAtMs < BURST_END_MS;
  }

  /** And the last one in this directory. */
  isEmptying(directory: NodeId): boolean {
    return this.#lastParent === directory && this.isBurst;
  }

  /** Goes on with what an earlier run had begun. Before anybody looks: the names stay gone until it is done. */
  recover(): void {
    for (const { id, action } of this.#context.journal.unfinished()) {
      if (action.kind !== 'delete') continue;
      const { key, etag } = action;
      void this.#backlog.pursue(
        this.#chore(id, key, () => this.#context.mover.deleteVersion(key, etag)),
        0,
      );
    }
  }

  /** Call when the index is about to take the name away, holding the node's lock. */
  async delete(deleted: DeletedName): Promise<void> {
    const { mover, journal, clock } = this.#context;
    const { key, etag } = deleted;
    this.#lastParent = deleted.parent;
    const pauseMs = clock.monotonicMs() - this.#lastAtMs;
    this.#isBurst = pauseMs < (this.#isBurst ? BURST_END_MS : BURST_GAP_MS);
    if (!this.#isBurst || this.#isFailing) {
      // One request, done or not: a crash leaves nothing to be finished, and after an error the name stays.
      await this.#noting(() => mover.delete(key));
      faultPoint('unlink.deleted');
      this.#lastAtMs = clock.monotonicMs();
      return;
    }
    this.#lastAtMs = clock.monotonicMs();
    await this.#slots.acquire();
    // No fsync: as with any unlink(2), a crash of the machine may bring the name back.
    const intent = journal.begin({ kind: 'delete', key, etag });
    faultPoint('burst.begun');
    void this.#pursue(intent, deleted, true, () => undefined).then(() => this.#slots.release());
  }

  /**
   * For an intent that has become the delete of what was moved away, in the same transaction as the move. Resolves when the bucket has done it, or
   * will; rejects when it refuses, and the intent is removed then.
   */
  async finish(intent: number, moved: DeletedName): Promise<void> {
    const { promise, reject } = Promise.withResolvers<never>();
    promise.catch(() => undefined); // Nobody waits for it any more when it comes later.
    void this.#pursue(intent, moved, false, reject);
    // What fails for now goes on in the background.
    await Promise.race([this.#backlog.settle(intent).catch(() => undefined), promise]);
  }

  /** Never rejects. */
  #pursue(
    intent: number,
    { key, etag, parent, name }: DeletedName,
    isPatient: boolean,
    onRefusal: (error: unknown) => void,
  ): Promise<void> {
    const { mover, beliefs } = this.#context;
    let attempts = 0;
    const attempt = async () => {
      attempts += 1;
      try {
        // Later attempts: somebody else may have written to the key meanwhile.
        await (attempts === 1 ? mover.delete(key, isPatient) : mover.deleteVersion(key, etag));
      } catch (error) {
        if (isRefusal(error)) onRefusal(error);
        throw error;
      }
      // A listing that began before this still shows the name.
      beliefs.noteRemoved(parent, name);
    };
    return this.#backlog.pursue(this.#chore(intent, key, attempt), 0);
  }

  #chore(intent: number, key: string, run: () => Promise<void>) {
    const attempt = async () => {
      await this.#noting(run);
      faultPoint('burst.deleted');
      this.#context.journal.done(intent);
    };
    return { intent, hidden: { kind: 'key', key }, attempt } as const;
  }

  async #noting(attempt: () => Promise<void>): Promise<void> {
    try {
      await attempt();
      this.#isFailing = false;
    } catch (error) {
      this.#isFailing = true;
      throw error;
    }
  }
}
