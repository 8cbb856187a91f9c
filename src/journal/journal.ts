import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { type FileHandle, open, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, systemClock } from '../base/clock.ts';
import { faultPoint } from '../base/fault-points.ts';
import type { NodeId } from '../base/ids.ts';
import { KeyedLock } from '../base/locks.ts';
import type { Logger } from '../base/log.ts';
import { removeFile } from '../base/remove-file.ts';
import type { Index, IntentAction, IntentRow, StagingRow } from '../index/contract.ts';
import { allRows } from '../index/pages.ts';
import type { Journal, Staging, Stray } from './contract.ts';
import { Describer } from './description.ts';
import {
  adoptStray,
  linkToLostAndFound,
  moveToLostAndFound,
  NEW_STAGING,
  readBootId,
  recoverStagings,
} from './recovery.ts';
import { FileStaging, type StagingContext, type StagingOrigin } from './staging.ts';

export interface JournalOptions {
  /** Absolute; created 0700 when missing. On a disk that keeps its files over a restart. */
  readonly directory: string;
  readonly index: Index;
  readonly log: Logger;
  readonly clock?: Clock;
  /** Tells one run of the machine from the next; the kernel's boot id. */
  readonly bootId?: string;
}

export function openJournal(options: JournalOptions): Journal {
  mkdirSync(options.directory, { recursive: true, mode: 0o700 });
  return new DirectoryJournal(options);
}

class DirectoryJournal implements Journal {
  readonly #directory: string;
  readonly #index: Index;
  readonly #log: Logger;
  readonly #bootId: string;
  readonly #context: StagingContext;
  readonly #describer: Describer;
  readonly #open = new Map<NodeId, FileStaging>();
  readonly #strays = new Set<Stray>();
  /** Of one node, staging files come and go one at a time: they share a row. */
  readonly #locks = new KeyedLock<NodeId>();

  constructor(options: JournalOptions) {
    const { directory, index, log, clock = systemClock } = options;
    this.#directory = directory;
    this.#index = index;
    this.#log = log;
    this.#bootId = options.bootId ?? readBootId();
    this.#describer = new Describer({ index, log, bootId: this.#bootId });
    this.#context = { index, log, clock, syncDirectory: () => syncDirectory(directory), describer: this.#describer };
  }

  stage(node: NodeId, baseSizeBytes: number, isExclusive = false): Promise<Staging> {
    const row = () => ({ ...this.#newRow(node, baseSizeBytes), isExclusive });
    return this.#locks.run(node, () => this.#open.get(node) ?? this.#create(row()));
  }

  stageOver(node: NodeId, sizeBytes: number, move: (path: string) => Promise<boolean>): Promise<Staging | undefined> {
    return this.#locks.run(node, () => this.#open.get(node) ?? this.#createOver(node, sizeBytes, move));
  }

  find(node: NodeId): Staging | undefined {
    return this.#open.get(node);
  }

  async noteFailure(node: NodeId, error: string): Promise<void> {
    await this.#open.get(node)?.noteFailure(error);
  }

  keepCopy(node: NodeId, reason: string): Promise<void> {
    return this.#locks.run(node, async () => {
      const staging = this.#open.get(node);
      if (staging === undefined) return;
      await this.#describer.describe(staging, 'durable');
      const keptAs = await linkToLostAndFound(this.#directory, staging.row.file);
      this.#log.error({ keptAs, reason }, 'a changed file cannot be brought to the bucket; it is kept');
    });
  }

  discard(node: NodeId): Promise<void> {
    return this.#locks.run(node, async () => {
      const staging = this.#open.get(node);
      if (staging === undefined) return;
      this.#open.delete(node);
      // The file first: one without a row would look like something to keep.
      await removeFile(staging.path);
      faultPoint('discard.removed');
      this.#index.pending.deleteStaging(node);
      await this.#end(staging);
    });
  }

  handOver(node: NodeId, take: (path: string, sizeBytes: number) => Promise<unknown>): Promise<void> {
    return this.#locks.run(node, async () => {
      const staging = this.#open.get(node);
      if (staging === undefined) throw new Error(`node ${node} has no staging file`);
      this.#open.delete(node);
      try {
        // The row goes last: a file without one would be kept as lost.
        await take(staging.path, staging.sizeBytes);
        faultPoint('settle.taken');
      } finally {
        this.#index.pending.deleteStaging(node);
        await this.#end(staging);
      }
      faultPoint('settle.unlisted');
    });
  }

  noteMoved(node: NodeId): void {
    this.#open.get(node)?.noteStale();
  }

  noteAllMoved(): void {
    for (const staging of this.#open.values()) staging.noteStale();
  }

  async recover(): Promise<readonly Staging[]> {
    const { stagings, strays } = await recoverStagings(this.#directory, this.#bootId, this.#context);
    for (const staging of stagings) this.#open.set(staging.node, staging);
    for (const stray of strays) this.#strays.add(stray);
    return stagings;
  }

  strays(): readonly Stray[] {
    return [...this.#strays];
  }

  adopt(stray: Stray, node: NodeId): Promise<Staging> {
    return this.#locks.run(node, async () => {
      const staging = await adoptStray(this.#directory, stray, node, this.#context);
      this.#strays.delete(stray);
      this.#open.set(node, staging);
      return staging;
    });
  }

  async setAside(stray: Stray, reason: string): Promise<void> {
    this.#strays.delete(stray);
    const keptAs = await moveToLostAndFound(this.#directory, stray.file);
    this.#log.error({ keptAs, path: stray.path, reason }, 'a changed file cannot be brought to the bucket; it is kept');
  }

  begin(action: IntentAction): number {
    return this.#index.pending.addIntent(action, this.#context.clock.nowMs());
  }

  become(id: number, action: IntentAction): void {
    this.#index.pending.setIntent(id, action);
  }

  sync(): Promise<void> {
    return this.#index.sync();
  }

  fail(id: number, error: string): void {
    this.#index.pending.failIntent(id, error);
  }

  done(id: number): void {
    this.#index.pending.deleteIntent(id);
  }

  unfinished(): readonly IntentRow[] {
    const { pending } = this.#index;
    return [...allRows(pending.intents.bind(pending), ({ id }) => id)];
  }

  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.#directory);
    return bavail * bsize;
  }

  /** What is still owed to the bucket must outlive the machine's next restart as well. */
  async close(): Promise<void> {
    for (const staging of this.#open.values()) {
      try {
        await staging.sync();
      } catch (error) {
        this.#log.error({ error, path: staging.path }, 'flushing a staging file failed');
      }
      await staging.close();
    }
    this.#describer.close();
    this.#open.clear();
  }

  async #end(staging: FileStaging): Promise<void> {
    await staging.close();
    await this.#describer.forget(staging);
  }

  /** File, length, row, in this order: a row promises that the file is there and as long as the content. */
  async #create(row: StagingRow): Promise<FileStaging> {
    const { baseSizeBytes } = row;
    const path = join(this.#directory, row.file);
    const file = await open(path, 'wx+', 0o600);
    try {
      if (baseSizeBytes > 0) await file.truncate(baseSizeBytes);
      faultPoint('stage.filed');
      this.#index.pending.putStaging(row);
    } catch (error) {
      await file.close();
      await removeFile(path);
      throw error;
    }
    const made = { path, sizeBytes: baseSizeBytes, present: [], leftAt: undefined };
    const staging = this.#begin(file, row, made);
    faultPoint('stage.listed');
    return staging;
  }

  /** The row first: without its file it means nothing, as long as the node has no changes. A file without a row would be kept as lost. */
  async #createOver(
    node: NodeId,
    sizeBytes: number,
    move: (path: string) => Promise<boolean>,
  ): Promise<FileStaging | undefined> {
    const row = this.#newRow(node, sizeBytes);
    const path = join(this.#directory, row.file);
    const present = [{ start: 0, end: sizeBytes }];
    const { pending } = this.#index;
    this.#index.transaction(() => {
      pending.putStaging(row);
      pending.setExtents(node, present);
    });
    try {
      const file = (await move(path)) ? await open(path, 'r+') : undefined;
      if (file !== undefined)
        return this.#begin(file, row, { path, sizeBytes, present, isClean: true, leftAt: undefined });
    } catch (error) {
      pending.deleteStaging(node);
      await removeFile(path);
      throw error;
    }
    pending.deleteStaging(node);
    return undefined;
  }

  #newRow(node: NodeId, baseSizeBytes: number): StagingRow {
    const file = `${node}-${randomBytes(6).toString('hex')}`;
    return { node, file, baseSizeBytes, createdAtMs: this.#context.clock.nowMs(), ...NEW_STAGING };
  }

  #begin(file: FileHandle, row: StagingRow, from: StagingOrigin): FileStaging {
    const staging = new FileStaging(this.#context, file, row, from);
    this.#open.set(row.node, staging);
    staging.noteStale();
    return staging;
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
