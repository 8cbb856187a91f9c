/** From staging files to the bucket: what close(2) and fsync(2) wait for, and what is tried again when it failed. */

import { faultPoint } from '../base/fault-points.ts';
import type { NodeId } from '../base/ids.ts';
import type { KeyedLock, SharedLock } from '../base/locks.ts';
import type { NodeRow } from '../index/contract.ts';
import type { Staging } from '../journal/contract.ts';
import { holdsDescriptor } from '../kernel/descriptors.ts';
import { isStoreError } from '../store/contract.ts';
import type { UploadResult } from '../transfer/contract.ts';
import type { Contents } from './content.ts';
import type { FsContext } from './context.ts';
import { FsError } from './errors.ts';
import { Mappings } from './mappings.ts';
import type { OpenFile, OpenFiles } from './open-files.ts';
import type { Retirement } from './retirement.ts';
import type { Tree } from './tree.ts';

export interface CommitterParts {
  readonly context: FsContext;
  readonly tree: Tree;
  readonly contents: Contents;
  readonly openFiles: OpenFiles;
  readonly retirement: Retirement;
  /** One change of one node at a time. */
  readonly nodeLocks: KeyedLock<NodeId>;
  /** Held shared by what uses keys, alone by what moves whole directories. */
  readonly keyGate: SharedLock;
}

export class Committer {
  readonly #parts: CommitterParts;
  readonly #mappings: Mappings;

  constructor(parts: CommitterParts) {
    this.#parts = parts;
    this.#mappings = new Mappings(parts.openFiles, (file) => this.#afterMapping(file));
  }

  /** Returns when the bucket has the node's content and attributes as they were when this was called, or throws the reason. */
  commit(id: NodeId): Promise<void> {
    const { openFiles, context } = this.#parts;
    if (openFiles.find(id)?.staging === undefined && context.journal.find(id) === undefined) return Promise.resolve();
    return openFiles.use(id, (file) => this.#parts.nodeLocks.run(id, () => this.commitLocked(file)));
  }

  /**
   * close(2) of one descriptor. Shells open a file, duplicate the descriptor, and close the first before anything is written: an empty file
   * that the same process still holds open is not worth an upload yet, and must not replace what readers see.
   */
  async flush(id: NodeId, pid: number): Promise<void> {
    const { openFiles, contents, context, tree, retirement } = this.#parts;
    const file = openFiles.find(id);
    if (file !== undefined) await contents.notice(file);
    const row = context.index.nodes.get(id);
    if (file?.staging?.sizeBytes === 0 && row?.dirty && (await holdsDescriptor(pid, tree.inodeOf(row)))) return;
    await this.makeDurable(id);
    // What an earlier process had opened, and how, is not always known.
    const mayBeMapped = file?.mayBeMapped || retirement.isInherited(id);
    if (file !== undefined && row !== undefined && mayBeMapped) {
      await this.#mappings.noteFlush(file, pid, tree.inodeOf(row));
    }
    context.views.invalidateNode(id, 0, 0);
  }

  /** What close(2) and fsync(2) promise: in the bucket, or, with local durability, on this host's disk and on its way. */
  async makeDurable(id: NodeId): Promise<void> {
    const { openFiles, contents, context } = this.#parts;
    if (context.options.durability === 'remote') return this.commit(id);
    const file = openFiles.find(id);
    const staging = file?.staging ?? context.journal.find(id);
    if (staging === undefined) return;
    if (file !== undefined) await contents.notice(file);
    if (context.index.nodes.get(id)?.dirty !== true) return;
    await staging.sync();
    // Its errors are logged, and the content stays in the journal until it is in the bucket.
    this.commit(id).catch(() => undefined);
  }

  /** After a writer's last close: a shared mapping without passthrough may have changed the file since the flush. */
  async afterRelease(id: NodeId): Promise<void> {
    const { openFiles, contents, context } = this.#parts;
    const file = openFiles.find(id);
    if (file?.mayHaveUnseenWrites) await openFiles.use(id, (used) => contents.notice(used));
    if (context.index.nodes.get(id)?.dirty) await this.commit(id);
  }

  /** The times of the file do not tell what a mapping wrote to pages that were dirty before: the content is compared. */
  async #afterMapping(file: OpenFile): Promise<void> {
    const { contents, context } = this.#parts;
    try {
      await contents.notice(file);
      const row = context.index.nodes.get(file.id);
      const { staging } = file;
      if (staging !== undefined && row?.etag !== undefined && !row.dirty) {
        if (await context.uploader.matches(staging.fd, staging.sizeBytes, row.etag)) return;
        staging.noteAllChanged();
        contents.noteChange(file);
      }
      await this.commit(file.id);
    } catch (error) {
      // What could not be uploaded is in the journal, and tried again.
      context.log.warn({ error: String(error) }, 'what a mapping wrote after close could not be uploaded yet');
    }
  }

  /** The same, for callers that hold the node's lock. */
  async commitLocked(file: OpenFile): Promise<void> {
    const { context, tree, keyGate } = this.#parts;
    const row = context.index.nodes.get(file.id);
    if (file.staging === undefined) this.#parts.contents.adoptStaging(file);
    // An unlinked file ends with its descriptors: nothing of it belongs into the bucket.
    if (row === undefined || row.parent === undefined || !row.dirty || file.staging === undefined) return;
    const staging = file.staging;
    await this.#parts.contents.notice(file);
    try {
      await keyGate.shared(async () => {
        await this.#recogniseOwn(file, staging);
        await this.#bringIntoBucket(file, tree.row(file.id), staging);
      });
      context.views.invalidateNode(file.id, 0, 0);
    } catch (error) {
      if (staging.isExclusive && isStoreError(error, 'PreconditionFailed')) await this.#giveWay(file, row);
      await context.journal.noteFailure(file.id, String(error));
      context.log.error({ name: row.name, error: String(error) }, 'upload failed; the content is kept in the journal');
      throw error;
    }
  }

  /**
   * The name belongs to the file of another server; this one goes with its descriptors, as if it were unlinked. What was promised to somebody, or
   * nobody hears of, is kept.
   */
  async #giveWay(file: OpenFile, row: NodeRow): Promise<never> {
    const { context, retirement } = this.#parts;
    const reason = 'another server made this file meanwhile, and O_EXCL forbids to replace it';
    if (file.writers === 0 || context.options.durability === 'local') await context.journal.keepCopy(row.id, reason);
    else context.log.warn({ name: row.name }, reason);
    if (row.parent !== undefined) context.notifier.invalidateEntry(row.parent, row.name);
    retirement.retire(row);
    throw new FsError('EEXIST', 'another server made this file meanwhile');
  }

  /**
   * Makes the target, just created or cut to nothing and not written to, a server-side copy of the whole source. EOPNOTSUPP when it is not
   * that: the kernel then copies by reads and writes. Returns the number of bytes copied.
   */
  async copyWhole(sourceId: NodeId, targetId: NodeId, maxBytes: number): Promise<number> {
    const { nodeLocks, keyGate, openFiles, contents } = this.#parts;
    return openFiles.use(targetId, (target) =>
      nodeLocks.runAll([sourceId, targetId], async () => {
        const { tree } = this.#parts;
        const source = tree.row(sourceId);
        const staging = await contents.stage(target);
        await contents.notice(target);
        const isWhole =
          source.etag !== undefined && !source.dirty && source.kind === 'file' && source.sizeBytes <= maxBytes;
        if (!isWhole || source.sizeBytes === 0 || staging.sizeBytes !== 0) throw new FsError('EOPNOTSUPP');
        // The kernel reads and writes the staging file by itself: it must hold what the object gets.
        if (target.mayHaveUnseenWrites) await contents.copyInto(staging, sourceId);
        await keyGate.shared(() => this.#copyOnServer(source, target, staging));
        this.#parts.context.views.invalidateNode(targetId, 0, 0);
        return source.sizeBytes;
      }),
    );
  }

  async #copyOnServer(source: NodeRow, file: OpenFile, staging: Staging): Promise<void> {
    const { context, tree, contents } = this.#parts;
    const { index, mover, clock, journal } = context;
    const now = tree.now();
    const { version } = staging;
    const target = { ...tree.row(file.id), sizeBytes: source.sizeBytes, mtime: now, ctime: now };
    const object = { etag: source.etag as string, sizeBytes: source.sizeBytes };
    const key = tree.keyOf(target);
    const result = await mover.copy(tree.keyOf(source), key, object, tree.objectAttributes(target, key));
    faultPoint('copy.copied');
    const keepsStaging = file.mayHaveUnseenWrites;
    index.transaction(() => {
      index.nodes.update(file.id, {
        etag: result.etag,
        lastModifiedMs: result.lastModifiedMs,
        sizeBytes: target.sizeBytes,
        mtime: now,
        ctime: now,
        content: index.contents.allocate(),
        validatedAtMs: clock.stampMs(),
        dirty: false,
      });
      // An empty staging file must not be taken for the content after a crash.
      if (keepsStaging) staging.noteUploaded(version);
      else index.pending.deleteStaging(file.id);
    });
    faultPoint('copy.noted');
    file.noteClean();
    contents.closeReader(file);
    if (keepsStaging) return;
    file.staging = undefined;
    await journal.discard(file.id);
  }

  /** After the last use: the staging file of an uploaded node becomes its cache file. */
  settle(file: OpenFile): void {
    if (file.settling !== undefined) return;
    file.settling = this.#settle(file)
      .catch((error: unknown) => {
        this.#parts.context.log.warn(
          { error: String(error) },
          'a closed file could not be settled; it stays in the journal',
        );
      })
      .finally(() => {
        file.settling = undefined;
      });
  }

  async #settle(file: OpenFile): Promise<void> {
    const { context, openFiles, retirement } = this.#parts;
    const { index, journal, cache } = context;
    const row = index.nodes.get(file.id);
    const isGone = row === undefined || row.parent === undefined;
    if (file.staging !== undefined) {
      // Changed after the last flush (a shared mapping), or the upload failed: the journal keeps it, and it is sent later.
      if (!isGone && row.dirty) return;
      const { content } = row ?? {};
      if (!isGone && file.staging.isComplete && content !== undefined) {
        const checksums = file.checksumsOf(file.staging.version);
        await journal.handOver(file.id, (path, sizeBytes) => cache.adopt(content, sizeBytes, path, checksums));
      } else {
        await journal.discard(file.id);
      }
      file.staging = undefined;
    }
    openFiles.drop(file);
    if (isGone) retirement.buryIfDetached(file.id);
  }

  /**
   * An earlier upload may have arrived, and its answer not. The staging file is laid over that version then: it has the same bytes wherever
   * nothing was changed here, and the version before is gone. Nor is it somebody else's, where O_EXCL forbids to replace one.
   */
  async #recogniseOwn(file: OpenFile, staging: Staging): Promise<void> {
    const { expectedEtag } = staging;
    if (expectedEtag === undefined) return;
    const { context, tree, contents } = this.#parts;
    const row = tree.row(file.id);
    const head = await context.store.head(tree.keyOf(row)).catch((error: unknown) => {
      if (isStoreError(error, 'NotFound')) return undefined;
      throw error;
    });
    if (head?.etag !== expectedEtag || head.etag === row.etag) return;
    const { etag, sizeBytes, lastModifiedMs } = head;
    context.index.nodes.update(file.id, { etag, sizeBytes, lastModifiedMs, content: undefined });
    staging.noteOwn();
    contents.closeReader(file);
    if (row.content !== undefined) context.cache.remove(row.content);
  }

  async #bringIntoBucket(file: OpenFile, row: NodeRow, staging: Staging): Promise<void> {
    const { context, tree } = this.#parts;
    const { version, sizeBytes } = staging;
    if (await this.#isUnchanged(row, staging)) {
      if (staging.version === version) return this.#settleUnchanged(file, row, staging);
    }
    const mtime = file.changedAt ?? row.mtime;
    const changed = { ...row, mtime, ctime: tree.now(), sizeBytes };
    const key = tree.keyOf(row);
    faultPoint('upload.begun');
    const result = await context.uploader.upload({
      key,
      fd: staging.fd,
      sizeBytes,
      attributes: tree.objectAttributes(changed, key),
      exclusive: staging.isExclusive,
      base: baseOf(key, row, staging),
      expecting: (etag) => staging.noteUploading(etag),
      prepare: (offset, lengthBytes) => this.#parts.contents.fill(file, staging.missing(offset, lengthBytes)),
    });
    this.#noteUploaded(file, changed, staging, version, result);
  }

  /** Rewriting a file with the bytes that it has (a copy job that runs every minute) must not cost an upload. */
  async #isUnchanged(row: NodeRow, staging: Staging): Promise<boolean> {
    if (row.etag === undefined || staging.sizeBytes !== row.sizeBytes || !staging.isComplete) return false;
    if (staging.dirty.list.length === 0) return true;
    return this.#parts.context.uploader.matches(staging.fd, staging.sizeBytes, row.etag);
  }

  async #settleUnchanged(file: OpenFile, row: NodeRow, staging: Staging): Promise<void> {
    const { context, tree } = this.#parts;
    const { index, mover, clock } = context;
    const { version } = staging;
    let copied: Partial<NodeRow> = {};
    if (file.hasNewAttributes && row.etag !== undefined) {
      const key = tree.keyOf(row);
      const object = { etag: row.etag, sizeBytes: row.sizeBytes };
      const result = await mover.copy(key, key, object, tree.objectAttributes(row, key));
      const { etag, lastModifiedMs } = result;
      copied = { etag, lastModifiedMs, complete: true, validatedAtMs: clock.stampMs() };
    }
    if (!staging.noteUploaded(version)) return;
    index.nodes.update(file.id, { ...copied, dirty: false });
    file.noteClean();
  }

  #noteUploaded(file: OpenFile, row: NodeRow, staging: Staging, version: number, result: UploadResult): void {
    const { context, contents } = this.#parts;
    const { index, cache, clock } = context;
    const oldContent = row.content;
    // What the file is laid over and which version that is belong together.
    const isClean = index.transaction(() => {
      const isUploaded = staging.noteUploaded(version);
      index.nodes.update(file.id, {
        etag: result.etag,
        lastModifiedMs: result.lastModifiedMs,
        sizeBytes: row.sizeBytes,
        mtime: row.mtime,
        ctime: row.ctime,
        content: index.contents.allocate(),
        complete: true,
        validatedAtMs: clock.stampMs(),
        dirty: !isUploaded,
      });
      return isUploaded;
    });
    faultPoint('upload.noted');
    if (isClean) file.noteClean();
    file.noteChecksums(version, result.checksums);
    contents.closeReader(file);
    if (oldContent !== undefined) cache.remove(oldContent);
  }
}

/** The version that the staging file is laid over, when enough of it shows through to be worth copying on the server. */
function baseOf(key: string, row: NodeRow, staging: Staging) {
  if (row.etag === undefined || staging.baseSizeBytes === 0) return undefined;
  return { key, etag: row.etag, sizeBytes: staging.baseSizeBytes, changed: [...staging.dirty.list] };
}
