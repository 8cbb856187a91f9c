/** Operations that change names: create, mkdir, symlink, unlink, rmdir, rename. */

import { type NodeId, ROOT_NODE_ID } from '../base/ids.ts';
import type { KeyedLock, SharedLock } from '../base/locks.ts';
import type { NodeFields, NodeKind, NodeRow } from '../index/contract.ts';
import { type BodySource, isStoreError, type ObjectAttributes } from '../store/contract.ts';
import type { Contents } from './content.ts';
import type { FsContext } from './context.ts';
import type { Deletions } from './deletions.ts';
import { FsError } from './errors.ts';
import { contentTypeByName } from './metadata.ts';
import type { Resolver } from './resolver.ts';
import type { Retirement } from './retirement.ts';
import type { Tree } from './tree.ts';

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export interface NamespaceParts {
  readonly context: FsContext;
  readonly tree: Tree;
  readonly resolver: Resolver;
  readonly contents: Contents;
  readonly deletions: Deletions;
  readonly retirement: Retirement;
  readonly nodeLocks: KeyedLock<NodeId>;
  readonly keyGate: SharedLock;
}

interface MovedObject {
  /** To be done with when the index has the new name. */
  readonly intent: number;
  readonly fields: Partial<NodeFields>;
}

export interface RenameManner {
  readonly noReplace: boolean;
  /** See `resent.ts`. */
  readonly isResent: boolean;
}

/** Linux's MAXSYMLINKS has nothing to do with it: PATH_MAX less the NUL bounds what readlink can return. */
const MAX_TARGET_BYTES = 4095;

const PERMISSIONS = 0o7777;
const S_ISGID = 0o2000;

export class Namespace {
  readonly #parts: NamespaceParts;

  constructor(parts: NamespaceParts) {
    this.#parts = parts;
  }

  /** A new file that the bucket does not have yet; its first flush brings it there. */
  async createFile(parent: NodeId, name: string, mode: number, owner: Owner): Promise<NodeRow> {
    await this.#checkFree(parent, name, 'file');
    return this.#insert(parent, name, { ...this.#newFields(parent, 'file', mode, owner), dirty: true, complete: true });
  }

  async makeDirectory(parent: NodeId, name: string, mode: number, owner: Owner): Promise<NodeRow> {
    const key = await this.#checkFree(parent, name, 'directory');
    const { context, tree, keyGate } = this.#parts;
    const startedAtMs = context.clock.nowMs();
    const fields = this.#newFields(parent, 'directory', mode, owner);
    const attributes = tree.objectAttributes({ ...fields, name }, key);
    const result = await keyGate.shared(() => context.store.put(key, EMPTY_BODY, { attributes }));
    // Made here just now: it is known to be empty.
    const row = this.#insert(parent, name, { ...fields, etag: result.etag, marker: '', listedAtMs: startedAtMs });
    context.beliefs.noteMarkerSeen(row.id, startedAtMs);
    return row;
  }

  async makeSymlink(parent: NodeId, name: string, target: string, owner: Owner): Promise<NodeRow> {
    const key = await this.#checkFree(parent, name, 'symlink');
    const body = Buffer.from(target);
    if (body.length === 0) throw new FsError('ENOENT');
    if (body.length > MAX_TARGET_BYTES) throw new FsError('ENAMETOOLONG');
    const { context, tree, keyGate } = this.#parts;
    const fields = { ...this.#newFields(parent, 'symlink', 0o777, owner), sizeBytes: body.length };
    const attributes = tree.objectAttributes({ ...fields, name }, key);
    const result = await keyGate.shared(() =>
      context.store.put(key, { sizeBytes: body.length, open: () => body }, { attributes }),
    );
    return this.#insert(parent, name, { ...fields, etag: result.etag, target });
  }

  async unlink(parent: NodeId, name: string): Promise<void> {
    const row = await this.#parts.resolver.need(parent, name);
    if (row.kind === 'directory') throw new FsError('EISDIR');
    const { context, tree, contents, deletions, retirement, nodeLocks, keyGate } = this.#parts;
    await contents.keepForReaders(row.id);
    await nodeLocks.run(row.id, () =>
      keyGate.shared(async () => {
        const current = context.index.nodes.get(row.id);
        if (current?.parent !== parent || current.name !== name) throw new FsError('ENOENT');
        if (current.etag !== undefined) await deletions.delete({ key: tree.keyOf(current), parent, name });
        context.beliefs.noteRemoved(parent, name);
        retirement.retireId(row.id);
        this.#tellViews(parent, name);
      }),
    );
    await this.#keepParent(parent);
  }

  async removeDirectory(parent: NodeId, name: string): Promise<void> {
    const row = await this.#parts.resolver.need(parent, name);
    if (row.kind !== 'directory') throw new FsError('ENOTDIR');
    await this.#checkEmpty(row);
    const { context, tree, retirement, keyGate } = this.#parts;
    await keyGate.shared(() => context.mover.delete(tree.keyOf(row)));
    context.beliefs.noteRemoved(parent, name);
    retirement.retireId(row.id);
    this.#tellViews(parent, name);
    await this.#keepParent(parent);
  }

  async rename(from: NodeId, name: string, to: NodeId, newName: string, how: RenameManner): Promise<void> {
    const { resolver } = this.#parts;
    const begun = how.isResent ? this.#begun(from, name) : undefined;
    // Once begun, the bucket need not have the old name any more, and what it has under the new one is the work of the earlier attempt.
    const row = begun?.row ?? (await resolver.need(from, name));
    const target = (await resolver.find(to, newName))?.row;
    if (target?.id === row.id) return;
    if (target !== undefined && how.noReplace && begun === undefined) throw new FsError('EEXIST');
    if (row.kind === 'directory') {
      if (target !== undefined && target.kind !== 'directory') throw new FsError('ENOTDIR');
      if (target !== undefined && begun === undefined) await this.#checkEmpty(target);
      await this.#renameDirectory(row, to, newName, target, begun?.intent);
    } else {
      if (target?.kind === 'directory') throw new FsError('EISDIR');
      await this.#renameFile(row, to, newName, target, begun?.intent);
    }
    await this.#keepParent(from);
  }

  /** What an earlier process had begun to rename, and its intent, to be gone on with. */
  #begun(from: NodeId, name: string): { row: NodeRow; intent: number } | undefined {
    const { index, journal } = this.#parts.context;
    const row = index.nodes.child(from, name);
    const intent = journal.unfinished().find(({ action }) => action.kind !== 'delete' && action.node === row?.id);
    return row === undefined || intent === undefined ? undefined : { row, intent: intent.id };
  }

  async #renameFile(
    row: NodeRow,
    to: NodeId,
    newName: string,
    target: NodeRow | undefined,
    begun: number | undefined,
  ): Promise<void> {
    const { context, tree, contents, deletions, nodeLocks, keyGate } = this.#parts;
    if (target !== undefined) await contents.keepForReaders(target.id);
    const ids = target === undefined ? [row.id] : [row.id, target.id];
    await nodeLocks.runAll(ids, () =>
      keyGate.shared(async () => {
        const current = tree.row(row.id);
        const toKey = tree.newKey(to, newName, current.kind);
        await deletions.settled(toKey);
        const moved = await this.#moveObject(current, toKey, newName, begun);
        context.index.transaction(() => {
          if (moved !== undefined) context.journal.done(moved.intent);
          this.#takeName(current, to, newName, target);
          if (moved !== undefined) context.index.nodes.update(row.id, moved.fields);
        });
      }),
    );
  }

  /** COPY, then DELETE; between them a crash leaves an intent, which is finished at the next start. */
  async #moveObject(
    row: NodeRow,
    toKey: string,
    newName: string,
    begun: number | undefined,
  ): Promise<MovedObject | undefined> {
    // Never uploaded: the upload will go to the new key.
    if (row.etag === undefined) return undefined;
    const { context, tree } = this.#parts;
    const fromKey = tree.keyOf(row);
    const intent = begun ?? context.journal.begin({ kind: 'rename', node: row.id, fromKey, toKey, etag: row.etag });
    try {
      const object = { etag: row.etag, sizeBytes: row.sizeBytes };
      const attributes = this.#attributesAs(row, newName, toKey);
      const { etag, lastModifiedMs } = await context.mover.copy(fromKey, toKey, object, attributes).catch((error) => {
        // Moved earlier, and only the index does not know; or the delete of the process that died has just arrived.
        if (begun === undefined || !isStoreError(error, 'NotFound')) throw error;
        return context.store.head(toKey);
      });
      await context.mover.delete(fromKey);
      return { intent, fields: { etag, lastModifiedMs, validatedAtMs: context.clock.nowMs() } };
    } catch (error) {
      // The caller is told, and sees the old name: nothing may happen to it later.
      context.journal.done(intent);
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
    return this.#parts.tree.objectAttributes({ ...row, name: newName, extras: { ...extras, headers } }, toKey);
  }

  async #renameDirectory(
    row: NodeRow,
    to: NodeId,
    newName: string,
    target: NodeRow | undefined,
    begun: number | undefined,
  ): Promise<void> {
    const { context, tree, deletions, keyGate } = this.#parts;
    await keyGate.exclusive(async () => {
      const current = tree.row(row.id);
      const fromPrefix = tree.prefixOf(row.id);
      const toPrefix = tree.newKey(to, newName, 'directory');
      if (toPrefix.startsWith(fromPrefix)) throw new FsError('EINVAL');
      await deletions.settledBelow(fromPrefix);
      await deletions.settledBelow(toPrefix);
      const intent = begun ?? context.journal.begin({ kind: 'renameTree', node: row.id, fromPrefix, toPrefix });
      const count = await context.mover.moveTree(fromPrefix, toPrefix).catch((error: unknown) => {
        context.journal.fail(intent, String(error));
        throw error;
      });
      context.index.transaction(() => {
        context.journal.done(intent);
        this.#takeName(current, to, newName, target);
        context.index.nodes.update(row.id, { validatedAtMs: context.clock.nowMs() });
      });
      if (count === 0) await this.#putMarker(tree.row(row.id));
      tree.forgetPrefixes();
    });
  }

  /** In the index: the old target loses the name, the node gets it. */
  #takeName(row: NodeRow, to: NodeId, newName: string, target: NodeRow | undefined): void {
    const { context, tree, retirement } = this.#parts;
    const { index, beliefs } = context;
    index.transaction(() => {
      if (target !== undefined) retirement.retireId(target.id);
      // A probe or a listing may have found the new name while the copy was under way.
      const intruder = index.nodes.child(to, newName);
      if (intruder !== undefined && intruder.id !== row.id) retirement.retire(intruder);
      index.nodes.move(row.id, to, newName);
    });
    if (row.parent !== undefined) beliefs.noteRemoved(row.parent, row.name);
    beliefs.notePresent(to, newName);
    if (row.parent !== undefined) this.#tellViews(row.parent, row.name);
    this.#tellViews(to, newName);
    if (row.kind === 'directory') tree.forgetPrefixes();
  }

  /** The name must not exist. Returns the key that it will have. */
  async #checkFree(parent: NodeId, name: string, kind: NodeKind): Promise<string> {
    const key = this.#parts.tree.newKey(parent, name, kind);
    // The kernel looked the name up just now: what it was told then is still believed, so this costs no request.
    const found = await this.#parts.resolver.find(parent, name);
    if (found !== undefined) throw new FsError('EEXIST');
    await this.#parts.deletions.settled(key);
    return key;
  }

  async #checkEmpty(directory: NodeRow): Promise<void> {
    const { context, tree, deletions } = this.#parts;
    const isKnownEmpty = context.beliefs.isWhollyKnown(directory) && !context.index.nodes.hasChildren(directory.id);
    if (isKnownEmpty) return;
    for (const child of context.index.nodes.children(directory.id, 0, 1)) {
      if (child.dirty) throw new FsError('ENOTEMPTY');
    }
    const prefix = tree.prefixOf(directory.id);
    await deletions.settledBelow(prefix);
    for await (const page of context.store.list({ prefix, limit: 2 })) {
      if (page.objects.some((object) => object.key !== prefix)) throw new FsError('ENOTEMPTY');
    }
  }

  /** POSIX keeps a directory whose last entry went; an implied one would vanish from the bucket, so it gets a marker. */
  async #keepParent(parent: NodeId): Promise<void> {
    const { context } = this.#parts;
    const row = context.index.nodes.get(parent);
    if (row === undefined || parent === ROOT_NODE_ID || row.marker !== undefined) return;
    if (context.index.nodes.hasChildren(parent)) return;
    await this.#putMarker(row);
  }

  async #putMarker(row: NodeRow): Promise<void> {
    const { context, tree } = this.#parts;
    const key = tree.prefixOf(row.id);
    const result = await context.store.put(key, EMPTY_BODY, { attributes: tree.objectAttributes(row, key) });
    context.index.nodes.update(row.id, { marker: '', etag: result.etag, validatedAtMs: context.clock.nowMs() });
  }

  #insert(parent: NodeId, name: string, fields: Omit<NodeFields, 'parent' | 'name'>): NodeRow {
    const { context, retirement } = this.#parts;
    const { index, beliefs } = context;
    return index.transaction(() => {
      const intruder = index.nodes.child(parent, name);
      if (intruder !== undefined) retirement.retire(intruder);
      beliefs.notePresent(parent, name);
      this.#tellViews(parent, name);
      return index.nodes.insert({ ...fields, parent, name });
    });
  }

  /** The name, and the directory's listing. */
  #tellViews(parent: NodeId, name: string): void {
    const { views } = this.#parts.context;
    views.invalidateEntry(parent, name);
    views.invalidateNode(parent, 0, 0);
  }

  /** In a set-gid directory new files get its group, and directories the bit too: FUSE leaves that to the file system. */
  #newFields(parent: NodeId, kind: NodeKind, mode: number, owner: Owner): Omit<NodeFields, 'parent' | 'name'> {
    const { tree, context } = this.#parts;
    const now = tree.now();
    const directory = tree.row(parent);
    const isGroupKept = (tree.permissionsOf(directory) & S_ISGID) !== 0;
    const isBitKept = isGroupKept && kind === 'directory';
    return {
      kind,
      sizeBytes: 0,
      mode: (mode & PERMISSIONS) | (isBitKept ? S_ISGID : 0),
      uid: owner.uid,
      gid: isGroupKept ? (directory.gid ?? context.options.defaults.gid) : owner.gid,
      mtime: now,
      ctime: now,
      atime: now,
      etag: undefined,
      lastModifiedMs: undefined,
      marker: undefined,
      content: undefined,
      md5: undefined,
      complete: true,
      extras: undefined,
      target: undefined,
      validatedAtMs: context.clock.nowMs(),
      listedAtMs: 0,
      dirty: false,
    };
  }
}

export const EMPTY_BODY: BodySource = { sizeBytes: 0, open: () => new Uint8Array(0) };
