/** What is in use: nodes with open descriptors, running operations or changes that the bucket does not have. */
import { constants } from 'node:fs';
import type { Timespec } from '../base/clock.ts';
import type { NodeId } from '../base/ids.ts';
import type { FileSlice } from '../cache/contract.ts';
import type { Staging } from '../journal/contract.ts';
import type { ContentReader } from '../transfer/contract.ts';

const { O_RDONLY, O_RDWR } = constants;

/**
 * The state of one node while it is in use. Everything in it can be rebuilt from the index and the journal, so a restarted worker
 * makes one when the first request for the node arrives.
 */
export class OpenFile {
  readonly id: NodeId;
  /** Open descriptions that the kernel has, by what they may do. */
  readers = 0;
  writers = 0;
  /** Operations that use `reader` or `staging` now. */
  inFlight = 0;
  /** Reads the version that the bucket has (the old content, while there are changes). */
  reader: Promise<ContentReader> | undefined;
  staging: Staging | undefined;
  /** Time of the last change of content made here and not in the row yet. */
  changedAt: Timespec | undefined;
  /** The index knows that there are changes (saves a write to it for each write). */
  isMarkedDirty = false;
  /** The driver was given the staging file for passthrough: it may be written to without a word. */
  mayHaveUnseenWrites = false;
  /** Somebody opened it for reading and writing, as a shared mapping that is written to needs it. It may outlive the descriptor. */
  mayBeMapped = false;
  /** The cache file that the driver was given for passthrough, to read from. Kept until nobody uses the node any more. */
  lent: FileSlice | undefined;
  /** The kernel may have another file for this node than its content is in now: nothing more may be read or written by passthrough. */
  isForeign = false;
  /** Mode, owner or times were changed too, and wait for the upload of the content. True after recovery: it is not known then. */
  hasNewAttributes = false;
  /** Set while the last user's traces are cleared (staging file to cache); new users wait for it. */
  settling: Promise<void> | undefined;
  #uploaded: { readonly version: number; readonly checksums: Uint32Array } | undefined;

  constructor(id: NodeId) {
    this.id = id;
  }

  get isOpen(): boolean {
    return this.readers + this.writers > 0;
  }

  get isIdle(): boolean {
    return !this.isOpen && this.inFlight === 0;
  }

  /** The bucket has everything. */
  noteClean(): void {
    this.isMarkedDirty = false;
    this.hasNewAttributes = false;
    this.changedAt = undefined;
  }

  /** `version` of the staging file was uploaded, and these are the checksums of its blocks, where they are known. */
  noteChecksums(version: number, checksums: Uint32Array | undefined): void {
    this.#uploaded = checksums && { version, checksums };
  }

  /** Of this version of the staging file. */
  checksumsOf(version: number): Uint32Array | undefined {
    return this.#uploaded?.version === version ? this.#uploaded.checksums : undefined;
  }

  /** Size and time of a file with changes, which the row does not have yet. */
  live(row: { readonly mtime: Timespec }): { sizeBytes: number; mtime: Timespec } | undefined {
    if (this.staging === undefined) return undefined;
    return { sizeBytes: this.staging.sizeBytes, mtime: this.changedAt ?? row.mtime };
  }
}

export class OpenFiles {
  /** Called by who must know all opens of a node: has those that the driver answered by itself `adopt`ed. */
  recall: (id: NodeId) => void = () => undefined;
  readonly #files = new Map<NodeId, OpenFile>();
  readonly #onIdle: (file: OpenFile) => void;

  /** `onIdle` is called when the last use of a file ended; it may call `drop`. */
  constructor(onIdle: (file: OpenFile) => void) {
    this.#onIdle = onIdle;
  }

  get size(): number {
    return this.#files.size;
  }

  find(id: NodeId): OpenFile | undefined {
    return this.#files.get(id);
  }

  isOpen(id: NodeId): boolean {
    return this.#files.get(id)?.isOpen ?? false;
  }

  /** Keeps the file's reader and staging alive while the task runs. */
  async use<T>(id: NodeId, task: (file: OpenFile) => Promise<T>): Promise<T> {
    const file = await this.#take(id, (taken) => {
      taken.inFlight += 1;
    });
    try {
      return await task(file);
    } finally {
      this.endUse(file);
    }
  }

  /** `accessMode`: O_RDONLY, O_WRONLY or O_RDWR. */
  open(id: NodeId, accessMode: number): Promise<OpenFile> {
    return this.#take(id, (file) => {
      if (accessMode === O_RDONLY) file.readers += 1;
      else file.writers += 1;
      if (accessMode === O_RDWR) file.mayBeMapped = true;
    });
  }

  /** Counts opens for reading that were answered elsewhere. */
  adopt(id: NodeId, readers: number): void {
    const file = this.#files.get(id) ?? new OpenFile(id);
    file.readers += readers;
    this.#files.set(id, file);
  }

  /** For uses that outlive a call: the counterpart of `file.inFlight += 1`. */
  endUse(file: OpenFile): void {
    file.inFlight -= 1;
    if (file.isIdle) this.#onIdle(file);
  }

  release(id: NodeId, writes: boolean): void {
    const file = this.#files.get(id);
    // A worker that took over does not know the opens of its predecessor.
    if (file === undefined) return;
    if (writes) file.writers = Math.max(0, file.writers - 1);
    else file.readers = Math.max(0, file.readers - 1);
    if (file.isIdle) this.#onIdle(file);
  }

  /** What was closed has gone where it belongs, as far as it could. */
  async settled(): Promise<void> {
    await Promise.all([...this.#files.values()].map(({ settling }) => settling));
  }

  drop(file: OpenFile): void {
    this.#files.delete(file.id);
    void file.reader?.then(
      (reader) => reader.close(),
      () => undefined, // It never opened: nothing to close, and its caller had the error.
    );
    file.reader = undefined;
    file.lent?.release();
    file.lent = undefined;
  }

  /**
   * The state of the node, made when there is none. `use` marks it as in use in the same turn in which nobody is settling it: after an await it
   * could be idle again, and on its way out.
   */
  async #take(id: NodeId, use: (file: OpenFile) => void): Promise<OpenFile> {
    for (;;) {
      const file = this.#files.get(id) ?? new OpenFile(id);
      if (file.settling !== undefined) {
        await file.settling;
        continue;
      }
      this.#files.set(id, file);
      use(file);
      return file;
    }
  }

  *[Symbol.iterator](): Iterator<OpenFile> {
    yield* this.#files.values();
  }
}
