/**
 * Brings to the bucket what it still lacks: what an earlier run left behind, and uploads that failed, tried again with growing pauses until
 * they succeed. Also what `umount` waits for.
 */
import { timespecFromMs } from '../base/clock.ts';
import { type NodeId, ROOT_NODE_ID } from '../base/ids.ts';
import { INDEX_BATCH, type IntentRow, type NodeRow, type StagingRow } from '../index/contract.ts';
import { isStoreError } from '../store/contract.ts';
import type { Committer } from './committer.ts';
import type { FsContext } from './context.ts';
import type { OpenFiles } from './open-files.ts';

const FIRST_PAUSE_MS = 2_000;
const LONGEST_PAUSE_MS = 120_000;
const LOOK_EVERY_MS = 1_000;
const PARALLEL = 4;
/** Longest time until all requests that an earlier process left have come again. */
const RESEND_LIMIT_MS = 30_000;

export interface DrainReport {
  readonly uploaded: number;
  /** What the bucket could not be given, and why. It stays in the journal. */
  readonly failed: readonly { readonly name: string; readonly error: string }[];
}

interface Retry {
  readonly pauseMs: number;
  readonly dueAtMs: number;
}

export class Drainer {
  readonly #context: FsContext;
  readonly #committer: Committer;
  readonly #openFiles: OpenFiles;
  readonly #retries = new Map<NodeId, Retry>();
  #timer: NodeJS.Timeout | undefined;
  #isLooking = false;

  constructor(context: FsContext, committer: Committer, openFiles: OpenFiles) {
    this.#context = context;
    this.#committer = committer;
    this.#openFiles = openFiles;
  }

  /**
   * Takes over what the last run left. Before the mount; the uploads themselves follow in the background. `open`: the mount goes on, and these
   * nodes are open for writing.
   */
  async recover(open: ReadonlySet<NodeId> | undefined): Promise<void> {
    const { journal, index, clock, log } = this.#context;
    const stagings = await journal.recover();
    if (stagings.length > 0) log.info({ files: stagings.length }, 'continuing with files of an earlier run');
    for (const staging of stagings) {
      const row = index.nodes.get(staging.node);
      if (row !== undefined && isKept(row, open)) continue;
      // Uploaded before the end of the last run, or unlinked while open: nothing is owed.
      await journal.discard(staging.node);
    }
    this.#dropUnstaged();
    if (open !== undefined) this.#believeInMoved();
    const root = index.nodes.get(ROOT_NODE_ID);
    if (root?.mtime.sec === 0) index.nodes.update(ROOT_NODE_ID, { mtime: timespecFromMs(clock.nowMs()) });
  }

  /** `continues`: the mount goes on. What was begun comes again from the kernel then, and nodes without a name may still be open. */
  start(continues: boolean): void {
    this.#timer = setInterval(() => void this.#look(), LOOK_EVERY_MS);
    this.#timer.unref();
    if (continues) return;
    void this.#finishIntents();
    void this.#buryDetached();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Tries everything once more, now. */
  async drain(onProgress: (left: number) => void): Promise<DrainReport> {
    const failed: { name: string; error: string }[] = [];
    let uploaded = 0;
    const rows = this.#owed();
    let left = rows.length;
    await this.#each(rows, async (row) => {
      const error = await this.#try(row.node);
      if (error === undefined) uploaded += 1;
      else failed.push({ name: this.#context.index.nodes.get(row.node)?.name ?? row.file, error });
      left -= 1;
      onProgress(left);
    });
    return { uploaded, failed };
  }

  /**
   * The mount goes on: what was being renamed is under both names in the bucket, or under the new one alone, until the kernel sends that request
   * again. No listing may take its row away meanwhile.
   */
  #believeInMoved(): void {
    const { journal, index, clock } = this.#context;
    for (const { action } of journal.unfinished()) {
      if (action.kind === 'delete') continue;
      index.nodes.update(action.node, { validatedAtMs: clock.nowMs() + RESEND_LIMIT_MS });
    }
  }

  /** A crash between the row of a new file and its staging file leaves a row that nothing stands behind. */
  #dropUnstaged(): void {
    const { index, journal } = this.#context;
    let after = 0;
    for (;;) {
      const rows = index.nodes.dirty(after, INDEX_BATCH);
      for (const row of rows) {
        after = row.id;
        if (journal.find(row.id) !== undefined) continue;
        if (row.etag === undefined) index.nodes.remove(row.id);
        else index.nodes.update(row.id, { dirty: false, validatedAtMs: 0 });
      }
      if (rows.length < INDEX_BATCH) return;
    }
  }

  /** Nodes that were open without a name when the last run ended. */
  async #buryDetached(): Promise<void> {
    const { nodes } = this.#context.index;
    const leftovers = nodes.detached(INDEX_BATCH).filter((row) => this.#openFiles.find(row.id) === undefined);
    for (const row of leftovers) {
      while (!nodes.remove(row.id)) await nextTurn();
    }
    if (leftovers.length === 0) return;
    await nextTurn();
    return this.#buryDetached();
  }

  async #look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    try {
      const nowMs = this.#context.clock.monotonicMs();
      const due = this.#owed().filter(({ node }) => {
        if ((this.#openFiles.find(node)?.writers ?? 0) > 0) return false;
        return (this.#retries.get(node)?.dueAtMs ?? 0) <= nowMs;
      });
      await this.#each(due, async ({ node }) => {
        if ((await this.#try(node)) === undefined) this.#retries.delete(node);
        else this.#postpone(node);
      });
    } finally {
      this.#isLooking = false;
    }
  }

  #owed(): StagingRow[] {
    const { index } = this.#context;
    return index.pending.stagings(0, INDEX_BATCH).filter(({ node }) => index.nodes.get(node)?.dirty === true);
  }

  #postpone(node: NodeId): void {
    const pauseMs = Math.min(LONGEST_PAUSE_MS, (this.#retries.get(node)?.pauseMs ?? FIRST_PAUSE_MS / 2) * 2);
    this.#retries.set(node, { pauseMs, dueAtMs: this.#context.clock.monotonicMs() + pauseMs });
  }

  async #try(node: NodeId): Promise<string | undefined> {
    try {
      await this.#committer.commit(node);
      return undefined;
    } catch (error) {
      // Logged and noted in the journal by the committer.
      return error instanceof Error ? error.message : String(error);
    }
  }

  async #each(rows: readonly StagingRow[], task: (row: StagingRow) => Promise<void>): Promise<void> {
    const queue = rows.values();
    const worker = async () => {
      for (const row of queue) await task(row);
    };
    await Promise.all(Array.from({ length: PARALLEL }, worker));
  }

  async #finishIntents(): Promise<void> {
    const { journal, log } = this.#context;
    for (const intent of journal.unfinished().filter(({ action }) => action.kind !== 'delete')) {
      try {
        await this.#finish(intent);
        journal.done(intent.id);
        log.info({ action: intent.action }, 'finished what an earlier run had begun');
      } catch (error) {
        journal.fail(intent.id, String(error));
        log.error(
          { action: intent.action, error: String(error) },
          'could not finish what an earlier run had begun; trying again at the next start',
        );
      }
    }
  }

  /** Forward only: what was acknowledged to nobody may still be completed, and a half rename must not stay. */
  async #finish({ action }: IntentRow): Promise<void> {
    const { mover, store } = this.#context;
    // Taken over by `Deletions`.
    if (action.kind === 'delete') return;
    if (action.kind === 'renameTree') {
      await mover.moveTree(action.fromPrefix, action.toPrefix);
      return;
    }
    try {
      const head = await store.head(action.fromKey);
      if (head.etag !== action.etag) return;
      await mover.copy(action.fromKey, action.toKey, head, undefined);
      await mover.delete(action.fromKey);
    } catch (error) {
      // Gone already: the crash came after the last step.
      if (!isStoreError(error, 'NotFound')) throw error;
    }
  }
}

/** Staging files that somebody needs: the bucket, who writes, and while the mount goes on whoever has a file open that has no name. */
function isKept(row: NodeRow, open: ReadonlySet<NodeId> | undefined): boolean {
  if (row.parent === undefined) return open !== undefined;
  return row.dirty || open?.has(row.id) === true;
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
