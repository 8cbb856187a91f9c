/**
 * Operations that make and take names: create, mkdir, symlink, unlink, rmdir. Each is one request that the bucket does or does not do, so none
 * needs an intent: after a crash its caller has no answer, and either is right. (A burst of unlinks is answered before: see `deletions.ts`.)
 */
import { faultPoint } from '../base/fault-points.ts';
import type { NodeId } from '../base/ids.ts';
import type { KeyedLock, SharedLock } from '../base/locks.ts';
import type { NodeFields, NodeKind, NodeRow } from '../index/contract.ts';
import type { Backlog } from './backlog.ts';
import type { Contents } from './content.ts';
import { type FsContext, tellViews } from './context.ts';
import type { Deletions } from './deletions.ts';
import { FsError } from './errors.ts';
import { EMPTY_BODY, type Markers } from './markers.ts';
import { FOLDER_SUFFIX } from './names.ts';
import { NOTHING_KNOWN } from './new-node.ts';
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
  readonly backlog: Backlog;
  readonly deletions: Deletions;
  readonly markers: Markers;
  readonly retirement: Retirement;
  readonly nodeLocks: KeyedLock<NodeId>;
  readonly keyGate: SharedLock;
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
    const fields = { ...this.#newFields(parent, 'file', mode, owner), dirty: true, complete: true };
    const row = this.#insert(parent, name, fields);
    faultPoint('create.named');
    return row;
  }

  /** Takes a file back that `createFile` made, unless it has content. */
  withdraw(id: NodeId): void {
    const { context, retirement } = this.#parts;
    const row = context.index.nodes.get(id);
    if (row?.etag === undefined && context.journal.find(id) === undefined) retirement.retireId(id);
  }

  async makeDirectory(parent: NodeId, name: string, mode: number, owner: Owner): Promise<NodeRow> {
    const key = await this.#checkFree(parent, name, 'directory');
    const { context, tree, keyGate } = this.#parts;
    const startedAtMs = context.clock.stampMs();
    const fields = this.#newFields(parent, 'directory', mode, owner);
    const attributes = tree.objectAttributes({ ...fields, name }, key);
    const result = await keyGate.shared(() => context.store.put(key, EMPTY_BODY, { attributes }));
    faultPoint('mkdir.put');
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
    faultPoint('symlink.put');
    return this.#insert(parent, name, { ...fields, etag: result.etag, target });
  }

  async unlink(parent: NodeId, name: string): Promise<void> {
    const row = await this.#parts.resolver.need(parent, name);
    if (row.kind === 'directory') throw new FsError('EISDIR');
    const { context, tree, contents, deletions, markers, retirement, nodeLocks, keyGate } = this.#parts;
    await contents.keepForReaders(row.id);
    await nodeLocks.run(row.id, () =>
      keyGate.shared(async () => {
        const current = context.index.nodes.get(row.id);
        if (current?.parent !== parent || current.name !== name) throw new FsError('ENOENT');
        await markers.keepParentOf(current);
        faultPoint('unlink.kept');
        const { etag } = current;
        if (etag !== undefined) await deletions.delete({ key: tree.keyOf(current), etag, parent, name });
        context.beliefs.noteRemoved(parent, name);
        retirement.retireId(row.id);
        tellViews(context, parent, name);
      }),
    );
  }

  async removeDirectory(parent: NodeId, name: string): Promise<void> {
    const row = await this.#parts.resolver.need(parent, name);
    if (row.kind !== 'directory') throw new FsError('ENOTDIR');
    const { context, tree, markers, retirement, keyGate } = this.#parts;
    await markers.checkEmpty(row);
    await keyGate.shared(async () => {
      await markers.keepParentOf(row);
      await context.mover.delete(tree.keyOf(row));
      // Beside Hadoop's marker there may be the usual one, and the directory would come back.
      if (row.marker === FOLDER_SUFFIX) await context.mover.delete(tree.prefixOf(row.id));
    });
    faultPoint('rmdir.deleted');
    context.beliefs.noteRemoved(parent, name);
    retirement.retireId(row.id);
    tellViews(context, parent, name);
  }

  /** The name must not exist. Returns the key that it will have. */
  async #checkFree(parent: NodeId, name: string, kind: NodeKind): Promise<string> {
    const key = this.#parts.tree.newKey(parent, name, kind);
    // The kernel looked the name up just now: what it was told then is still believed, so this costs no request.
    const found = await this.#parts.resolver.find(parent, name);
    if (found !== undefined) throw new FsError('EEXIST');
    // As the key of a file: the other kind may be on its way out.
    await this.#parts.backlog.settled(this.#parts.tree.prefixOf(parent) + name);
    return key;
  }

  #insert(parent: NodeId, name: string, fields: Omit<NodeFields, 'parent' | 'name'>): NodeRow {
    const { context, retirement } = this.#parts;
    const { index, beliefs } = context;
    return index.transaction(() => {
      const intruder = index.nodes.child(parent, name);
      if (intruder !== undefined) retirement.retire(intruder);
      beliefs.notePresent(parent, name);
      beliefs.noteMade(parent);
      tellViews(context, parent, name);
      return index.nodes.insert({ ...fields, parent, name });
    });
  }

  /** In a set-gid directory new files get its group, and directories the bit too: FUSE leaves that to the file system. */
  #newFields(parent: NodeId, kind: NodeKind, mode: number, owner: Owner): Omit<NodeFields, 'parent' | 'name'> {
    const { tree, context } = this.#parts;
    const now = tree.now();
    const directory = tree.row(parent);
    const isGroupKept = (tree.permissionsOf(directory) & S_ISGID) !== 0;
    const isBitKept = isGroupKept && kind === 'directory';
    return {
      ...NOTHING_KNOWN,
      kind,
      mode: (mode & PERMISSIONS) | (isBitKept ? S_ISGID : 0),
      uid: owner.uid,
      gid: isGroupKept ? (directory.gid ?? context.options.defaults.gid) : owner.gid,
      mtime: now,
      ctime: now,
      atime: now,
      complete: true,
      validatedAtMs: context.clock.stampMs(),
    };
  }
}
