/** Changes of mode, owner, times, size and extended attributes. */

import { faultPoint } from '../base/fault-points.ts';
import { type NodeId, ROOT_NODE_ID } from '../base/ids.ts';
import type { KeyedLock, SharedLock } from '../base/locks.ts';
import type { NodeExtras, NodeFields, NodeRow } from '../index/contract.ts';
import type { AttributeChange, SetTime } from '../kernel/contract.ts';
import type { Committer } from './committer.ts';
import type { Contents } from './content.ts';
import type { FsContext } from './context.ts';
import { FsError } from './errors.ts';
import { EMPTY_BODY } from './markers.ts';
import type { OpenFile, OpenFiles } from './open-files.ts';
import type { Resolver } from './resolver.ts';
import { type Tree, withoutPrivileges } from './tree.ts';

export interface AttributesParts {
  readonly context: FsContext;
  readonly tree: Tree;
  readonly resolver: Resolver;
  readonly contents: Contents;
  readonly committer: Committer;
  readonly openFiles: OpenFiles;
  readonly nodeLocks: KeyedLock<NodeId>;
  readonly keyGate: SharedLock;
}

type StoredAttributes = Partial<Pick<NodeFields, 'mode' | 'uid' | 'gid' | 'mtime' | 'atime' | 'ctime' | 'extras'>>;

const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;
const PERMISSIONS = 0o7777;
const NO_EXTRAS: NodeExtras = { headers: {}, metadata: {}, xattrs: {} };

export class AttributeChanges {
  readonly #parts: AttributesParts;

  constructor(parts: AttributesParts) {
    this.#parts = parts;
  }

  async set(id: NodeId, change: AttributeChange): Promise<NodeRow> {
    if (change.sizeBytes !== undefined) await this.truncate(id, change.sizeBytes);
    const { openFiles, contents, tree } = this.#parts;
    if (change.mtime !== undefined && openFiles.find(id)?.mayHaveUnseenWrites) {
      await openFiles.use(id, async (file) => {
        await contents.notice(file);
        await this.#change(id, (row) => this.#difference(row, change));
        await contents.noteTimeSet(file);
      });
    } else {
      await this.#change(id, (row) => this.#difference(row, change));
    }
    this.#parts.context.views.invalidateNode(id, -1, 0);
    return tree.row(id);
  }

  /** Uploaded at the next flush of whoever writes; at once when nobody has the file open for writing (truncate(2)). */
  async truncate(id: NodeId, sizeBytes: number): Promise<void> {
    const { openFiles, contents, committer, tree } = this.#parts;
    const { kind } = tree.row(id);
    if (kind === 'directory') throw new FsError('EISDIR');
    await openFiles.use(id, async (file) => {
      const staging = await contents.stage(file);
      await contents.notice(file);
      if (staging.sizeBytes !== sizeBytes) {
        contents.noteChange(file);
        await staging.truncate(sizeBytes);
      }
      if (file.writers === 0) await committer.commit(id);
    });
  }

  getXattr(row: NodeRow, name: string): Uint8Array {
    const value = row.extras?.xattrs[name];
    if (value === undefined) throw new FsError('ENODATA');
    return Buffer.from(value, 'base64');
  }

  listXattrs(row: NodeRow): readonly string[] {
    return Object.keys(row.extras?.xattrs ?? {});
  }

  setXattr(id: NodeId, name: string, value: Uint8Array, flags: number): Promise<void> {
    return this.#change(id, (row) => {
      const extras = row.extras ?? NO_EXTRAS;
      const encoded = Buffer.from(value).toString('base64');
      const old = extras.xattrs[name];
      if (old !== undefined && flags === XATTR_CREATE) throw new FsError('EEXIST');
      if (old === undefined && flags === XATTR_REPLACE) throw new FsError('ENODATA');
      if (old === encoded) return undefined;
      return { extras: { ...extras, xattrs: { ...extras.xattrs, [name]: encoded } } };
    });
  }

  removeXattr(id: NodeId, name: string): Promise<void> {
    return this.#change(id, (row) => {
      const extras = row.extras ?? NO_EXTRAS;
      const { [name]: old, ...rest } = extras.xattrs;
      if (old === undefined) throw new FsError('ENODATA');
      return { extras: { ...extras, xattrs: rest } };
    });
  }

  /**
   * No intent: the bucket makes the change or does not, and after a crash it is asked which.
   * Brings a change of attributes to the bucket: nothing when nothing changes, with the content when an upload is due, else one
   * COPY of the object onto itself (a PUT for a directory, whose object is empty).
   */
  async #change(id: NodeId, difference: (row: NodeRow) => StoredAttributes | undefined): Promise<void> {
    const { resolver, tree, nodeLocks, openFiles } = this.#parts;
    const complete = await resolver.complete(tree.row(id));
    if (complete.id !== id) throw new FsError('ESTALE');
    await nodeLocks.run(id, async () => {
      const row = tree.row(id);
      const changes = difference(row);
      if (changes === undefined) return;
      const changed = { ...row, ctime: tree.now(), ...changes };
      const file = openFiles.find(id);
      const stored = row.dirty ? noteForUpload(file, changes) : await this.#store(changed);
      faultPoint('attributes.stored');
      this.#parts.context.index.nodes.update(id, { ...changes, ctime: changed.ctime, ...stored });
    });
  }

  async #store(row: NodeRow): Promise<Partial<NodeFields>> {
    const { context, tree, keyGate } = this.#parts;
    // The bucket itself has no object to keep attributes on; an unlinked file has none any more. Both keep them here.
    if (row.parent === undefined || (row.id === ROOT_NODE_ID && context.options.rootPrefix === '')) return {};
    return keyGate.shared(async () => {
      const key = tree.keyOf(row);
      const attributes = tree.objectAttributes(row, key);
      if (row.kind === 'directory') {
        const { etag } = await context.store.put(key, EMPTY_BODY, { attributes });
        const marker = row.marker ?? '';
        return { etag, marker, lastModifiedMs: undefined, complete: true, validatedAtMs: context.clock.stampMs() };
      }
      if (row.etag === undefined) return {};
      const object = { etag: row.etag, sizeBytes: row.sizeBytes };
      const { etag, lastModifiedMs } = await context.mover.copy(key, key, object, attributes);
      // A listing that was faster may have put them in question: all of them were written just now.
      return { etag, lastModifiedMs, complete: true, validatedAtMs: context.clock.stampMs() };
    });
  }

  /** What differs from what the node has; undefined when nothing does. */
  #difference(row: NodeRow, change: AttributeChange): StoredAttributes | undefined {
    const { tree, context, openFiles } = this.#parts;
    const { defaults } = context.options;
    const file = openFiles.find(row.id);
    const wanted: { -readonly [K in keyof StoredAttributes]: StoredAttributes[K] } = {};
    const permissions = tree.permissionsOf(row);
    let mode = change.mode === undefined ? permissions : change.mode & PERMISSIONS;
    if (change.killPrivileges) mode = withoutPrivileges(mode, row.kind);
    if (mode !== permissions) wanted.mode = mode;
    if (change.uid !== undefined && change.uid !== (row.uid ?? defaults.uid)) wanted.uid = change.uid;
    if (change.gid !== undefined && change.gid !== (row.gid ?? defaults.gid)) wanted.gid = change.gid;
    const shownMtime = file?.changedAt ?? row.mtime;
    const mtime = this.#time(change.mtime);
    if (mtime !== undefined && !sameTime(mtime, row.mtime)) wanted.mtime = mtime;
    // Set back to what the bucket has, after a write (`cp -p` of the same file): then nothing of the times is new.
    else if (mtime !== undefined && file !== undefined) file.changedAt = undefined;
    const atime = this.#time(change.atime);
    // An access time alone is not worth a copy of the object; with another change it goes along.
    const onlyAtime = Object.keys(wanted).length === 0;
    if (atime !== undefined && !sameTime(atime, row.atime ?? shownMtime)) wanted.atime = atime;
    if (onlyAtime && wanted.atime !== undefined) {
      context.index.nodes.update(row.id, { atime: wanted.atime });
      return undefined;
    }
    return Object.keys(wanted).length === 0 ? undefined : wanted;
  }

  #time(time: SetTime | undefined): NodeRow['mtime'] | undefined {
    return time === 'now' ? this.#parts.tree.now() : time;
  }
}

/** The coming upload carries the attributes. A time that was set holds, and not that of the last write before. */
function noteForUpload(file: OpenFile | undefined, changes: StoredAttributes): Partial<NodeFields> {
  if (file === undefined) return {};
  file.hasNewAttributes = true;
  if (changes.mtime !== undefined) file.changedAt = undefined;
  return {};
}

function sameTime(a: NodeRow['mtime'], b: NodeRow['mtime']): boolean {
  return a.sec === b.sec && a.nsec === b.nsec;
}
