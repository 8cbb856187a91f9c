/** A file gets another name: COPY, then DELETE. See `renames.ts` for what a crash leaves. */
import { faultPoint } from '../base/fault-points.ts';
import type { NodeRow } from '../index/contract.ts';
import { pathOf } from '../index/path.ts';
import { isStoreError, type ObjectAttributes, type ObjectHead } from '../store/contract.ts';
import type { UploadResult } from '../transfer/contract.ts';
import { isCopyOf } from '../transfer/etag.ts';
import { FsError, isUncertain } from './errors.ts';
import { contentTypeByName } from './metadata.ts';
import type { Begun, Destination, FileMove, Moves } from './moves.ts';

const RETRY_MS = 1_000;

export class FileMoves {
  readonly #moves: Moves;

  constructor(moves: Moves) {
    this.#moves = moves;
  }

  /** `begun`: by an earlier process. */
  async rename(row: NodeRow, destination: Destination, begun: Begun<FileMove> | undefined): Promise<void> {
    const { tree, contents, markers, nodeLocks, keyGate } = this.#moves.parts;
    const { to, name, target } = destination;
    if (target !== undefined) await contents.keepForReaders(target.id);
    const ids = target === undefined ? [row.id] : [row.id, target.id];
    await nodeLocks.runAll(ids, () =>
      keyGate.shared(async () => {
        const current = tree.row(row.id);
        if (current.parent !== row.parent || current.name !== row.name) throw new FsError('ENOENT');
        const toKey = tree.newKey(to, name, current.kind);
        await markers.keepParentOf(current);
        // Never uploaded: the upload will go to the new key.
        if (current.etag === undefined) return this.#moves.takeName(current, destination, {});
        await this.#move(current, destination, begun ?? (await this.#begin(current, destination, toKey)));
      }),
    );
  }

  /** After a crash: once more, unless somebody else has written to either name since. Alone with the keys. */
  async redo({ id, action }: Begun<FileMove>): Promise<void> {
    const { context } = this.#moves.parts;
    const { index, notifier } = context;
    const { fromKey, toKey, to, name } = action;
    const row = index.nodes.get(action.node);
    const [source, found] = await Promise.all([this.#head(fromKey), this.#head(toKey)]);
    const isOurs =
      found === undefined || found.etag === action.replaces || (source !== undefined && isCopyOf(source, found));
    const isSame = this.#keyOf(row?.parent, row?.name) === fromKey && this.#keyOf(to, name) === toKey;
    if (row === undefined || !isSame || source?.etag !== action.etag || !isOurs) {
      return this.#giveUp({ id, action }, source, found);
    }
    await this.#move(row, { to, name, target: index.nodes.child(to, name) }, { id, action });
    if (row.parent !== undefined) notifier.invalidateEntry(row.parent, row.name);
    notifier.invalidateEntry(to, name);
  }

  /** It failed, and the copy may be there. One that has replaced something stays: that cannot come back. */
  async undo({ id, action }: Begun<FileMove>): Promise<void> {
    const { mover, journal } = this.#moves.parts.context;
    const copy = action.replaces === undefined ? await this.#findCopy(action) : undefined;
    if (copy !== undefined) await mover.deleteVersion(action.toKey, copy.etag);
    journal.done(id);
  }

  #begin(row: NodeRow, { to, name, target }: Destination, toKey: string): Promise<Begun<FileMove>> {
    return this.#moves.begin({
      kind: 'rename',
      node: row.id,
      fromKey: this.#moves.parts.tree.keyOf(row),
      toKey,
      etag: row.etag as string,
      to,
      name,
      replaces: target?.etag,
      phase: 'copying',
    });
  }

  #move(row: NodeRow, destination: Destination, { id, action }: Begun<FileMove>): Promise<void> {
    const { context, deletions } = this.#moves.parts;
    const { index, journal, clock } = context;
    const { fromKey: key, etag } = action;
    return this.#moves.working(id, async () => {
      const copy = await this.#copy(row, destination.name, { id, action });
      faultPoint('rename.copied');
      const fields = { etag: copy.etag, lastModifiedMs: copy.lastModifiedMs, validatedAtMs: clock.stampMs() };
      index.transaction(() => {
        journal.become(id, { kind: 'delete', key, etag });
        this.#moves.takeName(row, destination, fields);
      });
      faultPoint('rename.named');
      if (row.parent === undefined) throw new FsError('ESTALE');
      await deletions
        .finish(id, { key, etag, parent: row.parent, name: row.name })
        .catch((error: unknown) => this.#refused(row, destination, error));
      faultPoint('rename.deleted');
    });
  }

  async #copy(row: NodeRow, newName: string, { id, action }: Begun<FileMove>): Promise<UploadResult> {
    const { mover, journal } = this.#moves.parts.context;
    const attributes = this.#attributesAs(row, newName, action.toKey);
    try {
      const object = { etag: action.etag, sizeBytes: row.sizeBytes };
      return await mover.copy(action.fromKey, action.toKey, object, attributes);
    } catch (error) {
      // The answer may have been lost, and not the copy.
      const copy = isUncertain(error) ? await this.#findCopy(action).catch(() => 'unknown' as const) : undefined;
      if (copy === 'unknown') {
        this.#undoLater({ id, action: { ...action, phase: 'undoing' } });
        throw error;
      }
      if (copy !== undefined) return { etag: copy.etag, lastModifiedMs: copy.lastModifiedMs, multipart: false };
      // The caller is told, and sees the old name: nothing may happen to it later.
      journal.done(id);
      throw error;
    }
  }

  #undoLater(begun: Begun<FileMove>): void {
    this.#moves.parts.context.journal.become(begun.id, begun.action);
    this.#moves.pursue(begun.id, begun.action, () => this.undo(begun), RETRY_MS);
  }

  /**
   * The original cannot be deleted. Where there was nothing before, the copy goes again. What it has replaced cannot come back: the new name
   * keeps it then, and the old one comes back with the next listing.
   */
  async #refused(row: NodeRow, { to, name, target }: Destination, error: unknown): Promise<never> {
    const { context, tree } = this.#moves.parts;
    const moved = context.index.nodes.get(row.id);
    if (target === undefined && moved?.parent === to && moved.name === name && row.parent !== undefined) {
      await context.mover.deleteVersion(tree.keyOf(moved), moved.etag);
      const { etag, lastModifiedMs } = row;
      const back = { to: row.parent, name: row.name, target: undefined };
      this.#moves.takeName(moved, back, { etag, lastModifiedMs, validatedAtMs: 0 });
    }
    throw error;
  }

  /** Where nothing was before, a copy of the version that was to be moved is what the crash left. */
  async #giveUp({ id, action }: Begun<FileMove>, source?: ObjectHead, found?: ObjectHead): Promise<void> {
    const { mover, journal, log } = this.#moves.parts.context;
    log.warn({ from: action.fromKey, to: action.toKey }, 'a rename that a crash broke off is given up');
    const isLeftover = source !== undefined && found?.etag === action.etag && action.replaces === undefined;
    if (isLeftover) await mover.deleteVersion(action.toKey, action.etag);
    journal.done(id);
  }

  /** undefined: no name leads there any more. */
  #keyOf(parent: NodeRow['parent'], name: string | undefined): string | undefined {
    const { context, tree } = this.#moves.parts;
    if (parent === undefined || name === undefined || pathOf(context.index.nodes, parent) === undefined)
      return undefined;
    return tree.prefixOf(parent) + name;
  }

  /** The copy, if it is there; undefined when it is not. */
  async #findCopy({ fromKey, toKey }: FileMove): Promise<ObjectHead | undefined> {
    const [source, found] = await Promise.all([this.#head(fromKey), this.#head(toKey)]);
    return source !== undefined && found !== undefined && isCopyOf(source, found) ? found : undefined;
  }

  async #head(key: string): Promise<ObjectHead | undefined> {
    try {
      return await this.#moves.parts.context.store.head(key);
    } catch (error) {
      if (isStoreError(error, 'NotFound')) return undefined;
      throw error;
    }
  }

  /**
   * `x.jpg.tmp` that becomes `x.jpg` must not stay `application/octet-stream`: another type by name goes along with the copy. undefined:
   * the copy keeps what the object has (all of it, also when it was never seen here).
   */
  #attributesAs(row: NodeRow, newName: string, toKey: string): ObjectAttributes | undefined {
    const oldType = contentTypeByName(row.name);
    const extras = row.extras ?? { headers: {}, metadata: {}, xattrs: {} };
    const { contentType = oldType, ...headers } = extras.headers;
    if (row.kind !== 'file' || !row.complete || contentType !== oldType) return undefined;
    if (contentTypeByName(newName) === oldType) return undefined;
    return this.#moves.parts.tree.objectAttributes({ ...row, name: newName, extras: { ...extras, headers } }, toKey);
  }
}
