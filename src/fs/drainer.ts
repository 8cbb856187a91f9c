/**
 * Brings to the bucket what it still lacks: what an earlier run left behind, and uploads that failed, tried again with growing pauses until
 * they succeed. Also what `umount` waits for.
 */
import { timespecFromMs } from '../base/clock.ts';
import { type NodeId, ROOT_NODE_ID } from '../base/ids.ts';
import { INDEX_BATCH, type NodeRow, type StagingRow } from '../index/contract.ts';
import { allRows } from '../index/pages.ts';
import type { Backlog } from './backlog.ts';
import type { Committer } from './committer.ts';
import type { FsContext } from './context.ts';
import type { OpenFiles } from './open-files.ts';

const FIRST_PAUSE_MS = 2_000;
const LONGEST_PAUSE_MS = 120_000;
const LOOK_EVERY_MS = 1_000;
const PARALLEL = 4;

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
  readonly #backlog: Backlog;
  readonly #retries = new Map<NodeId, Retry>();
  #timer: NodeJS.Timeout | undefined;
  #isLooking = false;

  constructor(context: FsContext, committer: Committer, openFiles: OpenFiles, backlog: Backlog) {
    this.#context = context;
    this.#committer = committer;
    this.#openFiles = openFiles;
    this.#backlog = backlog;
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
    const root = index.nodes.get(ROOT_NODE_ID);
    if (root?.mtime.sec === 0) index.nodes.update(ROOT_NODE_ID, { mtime: timespecFromMs(clock.nowMs()) });
  }

  /** `continues`: the mount goes on. What was begun comes again from the kernel then, and nodes without a name may still be open. */
  start(continues: boolean): void {
    this.#timer = setInterval(() => void this.#look(), LOOK_EVERY_MS);
    this.#timer.unref();
    if (continues) return;
    void this.#buryDetached();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** The store is back: no pause between attempts counts any more. */
  hurry(): void {
    this.#retries.clear();
  }

  /** Tries everything once more, now. */
  async drain(onProgress: (left: number) => void): Promise<DrainReport> {
    // What was begun with names first: it may be in the way of uploads.
    const failed: { name: string; error: string }[] = [...(await this.#backlog.drain())];
    let uploaded = 0;
    let left = this.#context.index.pending.counts().stagings;
    await this.#each(this.#owed(), async (row) => {
      const error = await this.#try(row.node);
      if (error === undefined) uploaded += 1;
      else failed.push({ name: this.#context.index.nodes.get(row.node)?.name ?? row.file, error });
      left -= 1;
      onProgress(left);
    });
    // Who ends now would leave a file in the cache that the index has not heard of.
    await this.#openFiles.settled();
    return { uploaded, failed };
  }

  /** A crash between the row of a new file and its staging file leaves a row that nothing stands behind. */
  #dropUnstaged(): void {
    const { index, journal } = this.#context;
    for (const row of allRows(index.nodes.dirty.bind(index.nodes), ({ id }) => id)) {
      if (journal.find(row.id) !== undefined) continue;
      if (row.etag === undefined) index.nodes.remove(row.id);
      else index.nodes.update(row.id, { dirty: false, validatedAtMs: 0 });
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
      const isDue = ({ node }: StagingRow) => {
        if ((this.#openFiles.find(node)?.writers ?? 0) > 0) return false;
        return (this.#retries.get(node)?.dueAtMs ?? 0) <= nowMs;
      };
      await this.#each(this.#owed(), async (row) => {
        if (!isDue(row)) return;
        const { node } = row;
        if ((await this.#try(node)) === undefined) this.#retries.delete(node);
        else this.#postpone(node);
      });
    } finally {
      this.#isLooking = false;
    }
  }

  /** Page by page, as it is asked for: there may be very many. */
  *#owed(): Generator<StagingRow> {
    const { nodes, pending } = this.#context.index;
    for (const row of allRows(pending.stagings.bind(pending), ({ node }) => node)) {
      if (nodes.get(row.node)?.dirty === true) yield row;
    }
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

  async #each(rows: IteratorObject<StagingRow>, task: (row: StagingRow) => Promise<void>): Promise<void> {
    const worker = async () => {
      for (const row of rows) await task(row);
    };
    await Promise.all(Array.from({ length: PARALLEL }, worker));
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
