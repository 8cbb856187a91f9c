/** The bytes of files: from the bucket through the cache, and from staging files where there are changes. */

import { fstat as fstatCallback } from 'node:fs';
import { promisify } from 'node:util';
import type { NodeId } from '../base/ids.ts';
import { KeyedLock } from '../base/locks.ts';
import type { NodeRow } from '../index/contract.ts';
import type { Staging } from '../journal/contract.ts';
import type { ReadReply, WritePayload } from '../kernel/contract.ts';
import { isStoreError } from '../store/contract.ts';
import type { ContentReader } from '../transfer/contract.ts';
import type { FsContext } from './context.ts';
import { FsError } from './errors.ts';
import type { OpenFile, OpenFiles } from './open-files.ts';
import type { Resolver } from './resolver.ts';
import { isLater, type Tree, withoutPrivileges } from './tree.ts';

/** Old content is filled into a staging file in pieces of at most so many bytes. */
const FILL_BYTES = 4 * 1024 * 1024;

/**
 * From this size on a file is read by passthrough when all of it is in the cache. Measured: at 1 MiB the page cache and opens that native threads
 * answer are nine times as fast, at 4 MiB as fast, at 16 MiB passthrough is 1.4 times as fast, 2.6 times where memory has nothing of the file.
 */
const LENT_MIN_BYTES = 8 * 1024 * 1024;

const fstat = promisify(fstatCallback);

/** PATH_MAX: no target of a symbolic link is longer. */
const MAX_TEXT_BYTES = 4096;

const NOTHING: ReadReply = { kind: 'memory', pieces: [], release: () => undefined };

export class Contents {
  readonly #context: FsContext;
  readonly #tree: Tree;
  readonly #resolver: Resolver;
  readonly #openFiles: OpenFiles;
  readonly #staging = new KeyedLock<NodeId>();

  constructor(context: FsContext, tree: Tree, resolver: Resolver, openFiles: OpenFiles) {
    this.#context = context;
    this.#tree = tree;
    this.#resolver = resolver;
    this.#openFiles = openFiles;
  }

  read(id: NodeId, offset: number, lengthBytes: number, signal: AbortSignal): Promise<ReadReply> {
    return this.#openFiles.use(id, async (file) => {
      const staging = file.staging ?? this.adoptStaging(file);
      if (staging !== undefined) return this.#readStaging(file, staging, offset, lengthBytes);
      const row = this.#tree.row(id);
      if (row.etag === undefined || offset >= row.sizeBytes) return NOTHING;
      const reader = await this.reader(file);
      try {
        return await reader.read(offset, Math.min(lengthBytes, row.sizeBytes - offset), signal);
      } catch (error) {
        throw this.#outdated(row, error);
      }
    });
  }

  async #readStaging(file: OpenFile, staging: Staging, offset: number, lengthBytes: number): Promise<ReadReply> {
    const end = Math.min(offset + lengthBytes, staging.sizeBytes);
    if (end <= offset) return NOTHING;
    await this.fill(file, staging.missing(offset, end - offset));
    return { kind: 'file', fd: staging.fd, offset, lengthBytes: end - offset, release: staging.hold() };
  }

  /** Brings the whole file into the cache. */
  prefetch(id: NodeId): Promise<void> {
    return this.#openFiles.use(id, async (file) => {
      if (file.staging !== undefined || this.#tree.row(id).etag === undefined) return;
      const reader = await this.reader(file);
      if (!reader.isComplete) await reader.fetchAll();
    });
  }

  /** The whole of a small file as text: the target of a symbolic link. */
  readText(id: NodeId): Promise<string> {
    return this.#openFiles.use(id, async (file) => {
      const { sizeBytes } = this.#tree.row(id);
      if (sizeBytes > MAX_TEXT_BYTES) throw new FsError('EIO', 'not a symbolic link: too long');
      const reader = await this.reader(file);
      return new TextDecoder().decode(await reader.readBytes(0, sizeBytes));
    });
  }

  write(id: NodeId, offset: number, payload: WritePayload, killPrivileges: boolean): Promise<number> {
    return this.#openFiles.use(id, async (file) => {
      const staging = await this.stage(file);
      await this.fill(file, staging.missingForWrite(offset, payload.lengthBytes));
      this.noteChange(file);
      await staging.writeBy(offset, payload.lengthBytes, (fd) => payload.toFile(fd, offset));
      if (killPrivileges) this.dropPrivileges(id);
      return payload.lengthBytes;
    });
  }

  /**
   * The staging file of the node; made over the old content when there is none. From here on the node has changes. `isExclusive`: a new one is of a
   * file that must not replace what somebody else made.
   */
  stage(file: OpenFile, isExclusive = false): Promise<Staging> {
    const staging = file.staging ?? this.adoptStaging(file);
    if (staging !== undefined) return Promise.resolve(staging);
    return this.#staging.run(file.id, async () => {
      if (file.staging !== undefined) return file.staging;
      // What the object says of itself must be known before it is replaced, or the upload would lose it.
      const row = await this.#resolver.complete(this.#tree.row(file.id));
      if (row.id !== file.id) throw new FsError('ESTALE');
      const { index, journal } = this.#context;
      const oldBytes = row.etag === undefined ? 0 : row.sizeBytes;
      file.staging = (await this.#takeOver(file, oldBytes)) ?? (await journal.stage(file.id, oldBytes, isExclusive));
      if (!row.dirty) index.nodes.update(file.id, { dirty: true });
      file.isMarkedDirty = true;
      this.#context.views.invalidateNode(file.id, 0, 0);
      return file.staging;
    });
  }

  /**
   * The file that the kernel lets others read becomes the one that is changed, or they would not see the changes. Its page cache beside that
   * file will not hear of what is written by passthrough.
   */
  async #takeOver(file: OpenFile, sizeBytes: number): Promise<Staging | undefined> {
    const { lent } = file;
    if (lent === undefined) return undefined;
    const { journal, notifier } = this.#context;
    const reader = await this.reader(file);
    const staging = await journal.stageOver(file.id, sizeBytes, (path) => reader.moveOut(path, lent.fd));
    if (staging === undefined) file.isForeign = true;
    else notifier.invalidateNode(file.id, 0, 0);
    return staging;
  }

  /** Large enough that reading past the page cache is worth more than opens that native threads answer. */
  mayBeLent({ sizeBytes, etag }: NodeRow): boolean {
    return etag !== undefined && sizeBytes >= LENT_MIN_BYTES && this.#context.takesBackingFiles();
  }

  /** What the driver may register for passthrough to read from: the cache file, when it is all there and was compared. */
  async lend(file: OpenFile): Promise<number | undefined> {
    if (file.lent === undefined && this.mayBeLent(this.#tree.row(file.id))) {
      // Not while a staging file is made.
      await this.#staging.run(file.id, async () => {
        if (file.staging !== undefined || file.lent !== undefined) return;
        const reader = await this.reader(file);
        if (reader.isComplete) file.lent = await reader.whole(false);
      });
    }
    return file.staging === undefined ? file.lent?.fd : undefined;
  }

  /**
   * What the driver may register for passthrough: the staging file, when it holds everything. From then on writes are found by looking at
   * the file.
   */
  async backingFd(file: OpenFile): Promise<number | undefined> {
    const { staging } = file;
    if (staging === undefined || !staging.isComplete) return undefined;
    if (!file.mayHaveUnseenWrites) await staging.noteUnseenWrites();
    file.mayHaveUnseenWrites = true;
    return staging.fd;
  }

  /**
   * The same, when an earlier process gave the file away. When that is the staging file, what was written to it since is not known. `inode`
   * tells, 0: that it is the staging file, if there is one.
   */
  async inheritBackingFile(file: OpenFile, inode: number): Promise<void> {
    const staging = file.staging ?? this.adoptStaging(file);
    if (staging === undefined) {
      if (inode !== 0) await this.#inheritLent(file, inode);
    } else if (inode !== 0 && (await fstat(staging.fd)).ino !== inode) {
      file.isForeign = true;
    } else {
      await this.backingFd(file);
      staging.noteAllChanged();
      this.noteChange(file);
    }
  }

  async #inheritLent(file: OpenFile, inode: number): Promise<void> {
    if (file.lent === undefined) file.lent = await (await this.reader(file)).whole(true);
    file.isForeign = file.lent === undefined || (await fstat(file.lent.fd)).ino !== inode;
  }

  /** Takes notice of what was written by passthrough. Before anything that depends on size, times or content. */
  async notice(file: OpenFile): Promise<void> {
    if (!file.mayHaveUnseenWrites || file.staging === undefined) return;
    if (await file.staging.noteUnseenWrites()) this.noteChange(file);
  }

  /** The time was set: what passthrough wrote before has no say in it any more, what it writes from now on has. */
  async noteTimeSet(file: OpenFile): Promise<void> {
    if (file.staging === undefined) return;
    await file.staging.setTime(this.#tree.row(file.id).mtime);
    this.#context.index.nodes.update(file.id, { dirty: true });
    file.isMarkedDirty = true;
  }

  /** To be called with every change of content. */
  noteChange(file: OpenFile): void {
    file.changedAt = this.#tree.now();
    if (file.isMarkedDirty) return;
    this.#context.index.nodes.update(file.id, { dirty: true });
    file.isMarkedDirty = true;
    this.#context.views.invalidateNode(file.id, 0, 0);
  }

  /** Copies the missing ranges of the old content into the staging file. */
  async fill(file: OpenFile, ranges: readonly { offset: number; lengthBytes: number }[]): Promise<void> {
    for (const range of ranges) {
      const reader = await this.reader(file);
      const end = range.offset + range.lengthBytes;
      for (let offset = range.offset; offset < end; offset += FILL_BYTES) {
        const bytes = await reader.readBytes(offset, Math.min(FILL_BYTES, end - offset));
        await file.staging?.fill(offset, bytes);
      }
    }
  }

  /** Writes the whole content of another node into an empty staging file. */
  async copyInto(staging: Staging, source: NodeId): Promise<void> {
    await this.#openFiles.use(source, async (file) => {
      const { sizeBytes } = this.#tree.row(source);
      const reader = await this.reader(file);
      for (let offset = 0; offset < sizeBytes; offset += FILL_BYTES) {
        await staging.write(offset, await reader.readBytes(offset, Math.min(FILL_BYTES, sizeBytes - offset)));
      }
    });
  }

  /** The reader of the version that the bucket has. */
  reader(file: OpenFile): Promise<ContentReader> {
    if (file.reader !== undefined) return file.reader;
    const opening = this.#openReader(file.id);
    file.reader = opening;
    opening.catch(() => {
      if (file.reader === opening) file.reader = undefined;
    });
    return opening;
  }

  /** The version in the bucket is another one now: whoever reads next opens that. */
  closeReader(file: OpenFile): void {
    const reader = file.reader;
    file.reader = undefined;
    void reader?.then(
      (opened) => opened.close(),
      () => undefined, // It never opened, and its caller had the error.
    );
  }

  /** Before the object disappears under its open descriptors: have all of it here, so that they can go on. */
  async keepForReaders(id: NodeId): Promise<void> {
    this.#openFiles.recall(id);
    const row = this.#context.index.nodes.get(id);
    if ((this.#openFiles.find(id)?.isIdle ?? true) || row?.etag === undefined || row.kind !== 'file') return;
    await this.#openFiles.use(id, async (file) => {
      if (file.staging?.isComplete) return;
      const reader = await this.reader(file);
      if (!reader.isComplete) await reader.fetchAll();
      if (file.staging !== undefined) await this.fill(file, file.staging.missing(0, file.staging.sizeBytes));
    });
  }

  async #openReader(id: NodeId): Promise<ContentReader> {
    const { index, downloader } = this.#context;
    const row = this.#tree.row(id);
    if (row.etag === undefined) throw new FsError('EIO', 'no version of this file is in the bucket');
    let { content } = row;
    if (content === undefined) {
      content = index.contents.allocate();
      index.nodes.update(id, { content });
    }
    const key = () => this.#tree.keyOf(this.#tree.row(id));
    const onDamage = () => this.#context.notifier.invalidateNode(id, 0, 0);
    return downloader.open({ key, etag: row.etag, sizeBytes: row.sizeBytes, content, onDamage });
  }

  /** A staging file that the journal has and this file does not know: left by an earlier worker, or kept after a failed upload. */
  adoptStaging(file: OpenFile): Staging | undefined {
    file.staging = this.#context.journal.find(file.id);
    const row = this.#context.index.nodes.get(file.id);
    if (file.staging === undefined || row === undefined) return file.staging;
    // The row has all changes of attributes, but not those of content: whichever came last says the time of modification.
    const { leftAt } = file.staging;
    if (row.dirty && leftAt !== undefined && isLater(leftAt, row.ctime ?? row.mtime)) file.changedAt ??= leftAt;
    file.hasNewAttributes = true;
    return file.staging;
  }

  /** The version is gone from the bucket: the name must be asked for again. */
  #outdated(row: NodeRow, error: unknown): unknown {
    if (!isStoreError(error, 'PreconditionFailed', 'NotFound')) return error;
    this.#context.index.nodes.update(row.id, { validatedAtMs: 0 });
    if (row.parent !== undefined) this.#context.notifier.invalidateEntry(row.parent, row.name);
    return new FsError('ESTALE', 'the object was replaced in the bucket');
  }

  /** With the content that was changed: the upload carries the mode. */
  dropPrivileges(id: NodeId): void {
    const row = this.#tree.row(id);
    if (row.mode === undefined) return;
    const mode = withoutPrivileges(row.mode, row.kind);
    if (mode !== row.mode) this.#context.index.nodes.update(id, { mode });
  }
}
