/**
 * The index: everything tsfs knows about the bucket, and everything it still owes the bucket, in one SQLite database that
 * survives restarts. Tables only; no policy (who may be believed, what to evict) and no network.
 *
 * Calls are synchronous and short: point reads and writes, or at most `INDEX_BATCH` rows. Nothing waits for the disk on
 * the JavaScript thread: the database is in WAL mode with synchronous=NORMAL, automatic checkpoints are off and run in a
 * worker thread, and durability where it is owed is `sync()`, an fdatasync of the WAL on the thread pool.
 */
import type { Timespec } from '../base/clock.ts';
import type { Extent } from '../base/extents.ts';
import type { ContentId, NodeId } from '../base/ids.ts';

/** Upper bound of rows in one call. */
export const INDEX_BATCH = 1000;

export type NodeKind = 'file' | 'directory' | 'symlink';

/** What must be written back when an object's metadata is replaced, and is not a column of its own. */
export interface NodeExtras {
  /** System headers (Content-Type, Cache-Control, …), see the store's ObjectHeaders. */
  readonly headers: Readonly<Record<string, string>>;
  /** User metadata that is not tsfs's own. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Extended attributes: name → base64. */
  readonly xattrs: Readonly<Record<string, string>>;
}

export interface NodeFields {
  /** undefined: detached. The node has no name any more (unlinked or replaced), but the kernel may still hold it. */
  readonly parent: NodeId | undefined;
  /** Last component. '' for the root. A detached node keeps its last name. */
  readonly name: string;
  readonly kind: NodeKind;
  readonly sizeBytes: number;
  /** Permission bits (07777). undefined: the object says nothing, the mount's default holds. The same for uid and gid. */
  readonly mode: number | undefined;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
  readonly mtime: Timespec;
  /** undefined: as mtime. */
  readonly ctime: Timespec | undefined;
  readonly atime: Timespec | undefined;
  /** undefined: not in the bucket under this name (an implied directory, or a file that was never uploaded). */
  readonly etag: string | undefined;
  /**
   * The bucket's Last-Modified of the version the row describes, ms since the epoch; undefined: not known (an upload's answer does not
   * tell it). The ETag names the bytes only: a copy onto itself (chmod, utimes by another server) keeps the ETag and changes the metadata,
   * and shows in Last-Modified alone. Listings compare it in whole seconds, since HEAD has no more. An `update` that names `etag` and
   * not this forgets it.
   */
  readonly lastModifiedMs: number | undefined;
  /** Key of a directory's marker object relative to the directory's own prefix: '' for `dir/`, '_$folder$' for that form. */
  readonly marker: string | undefined;
  /** Where the block cache keeps the bytes of this version; undefined until first used. */
  readonly content: ContentId | undefined;
  /** Hex MD5 of the whole content, when known. */
  readonly md5: string | undefined;
  /** False: attributes come from a listing only, metadata was never seen. */
  readonly complete: boolean;
  /** undefined: none, or not known yet (see `complete`). */
  readonly extras: NodeExtras | undefined;
  /** Of a symbolic link, once known. */
  readonly target: string | undefined;
  /** When the bucket last vouched for this row, ms since the epoch. */
  readonly validatedAtMs: number;
  /** Of a directory: when its last complete listing began, ms since the epoch. 0: never. */
  readonly listedAtMs: number;
  /** Has local changes that the bucket does not have. Listings leave such rows alone. */
  readonly dirty: boolean;
}

export interface NodeRow extends NodeFields {
  readonly id: NodeId;
}

/** One name of a listing page, already translated from keys. */
export type ListedName =
  | {
      readonly kind: 'directory';
      readonly name: string;
      /** See `NodeFields.marker`, where the listing of the parent shows one. */
      readonly marker?: string;
    }
  | {
      readonly kind: 'file';
      readonly name: string;
      readonly sizeBytes: number;
      readonly etag: string;
      readonly lastModifiedMs: number;
    };

export interface Replacement {
  readonly name: string;
  /** Detached. */
  readonly oldId: NodeId;
  readonly newId: NodeId;
}

export interface Sweep {
  readonly detached: readonly NodeRow[];
  /** Where to continue; undefined: done. */
  readonly next: number | undefined;
}

export interface AppliedListing {
  readonly replacements: readonly Replacement[];
  /** Names whose bytes are the same and whose metadata may not be. */
  readonly questioned: readonly { readonly name: string; readonly id: NodeId }[];
  /** Number of names that had no row. */
  readonly added: number;
}

export interface NodeTable {
  /** Called when a row changes: before `update`, `move`, `detach` or `remove`, and after a listing said more of it than that it is still true. */
  onChange: (id: NodeId) => void;
  get(id: NodeId): NodeRow | undefined;
  child(parent: NodeId, name: string): NodeRow | undefined;
  /** Children with `id > after`, in order of id, at most `limit` (≤ INDEX_BATCH). Stable while the directory changes. */
  children(parent: NodeId, after: number, limit: number): NodeRow[];
  hasChildren(parent: NodeId): boolean;
  /** Fails (throws) when the name is taken. */
  insert(fields: NodeFields): NodeRow;
  /** Nothing when there is no such row. */
  update(id: NodeId, change: Partial<Omit<NodeFields, 'parent' | 'name'>>): void;
  /** Gives the node a new parent and name; the new name must be free. */
  move(id: NodeId, parent: NodeId, name: string): void;
  /** Takes the node's name away. */
  detach(id: NodeId): void;
  /**
   * Deletes at most INDEX_BATCH of the rows below the node and, when none is left, the row itself: true. Otherwise the row is detached and the
   * answer false: call again. Contents are not touched.
   */
  remove(id: NodeId): boolean;
  /** Detached rows (what a crash or the last mount left), at most `limit`. */
  detached(limit: number): NodeRow[];
  /** Rows with local changes and `id > after`, in order of id, at most `limit`. */
  dirty(after: number, limit: number): NodeRow[];
  /**
   * Brings one page of a listing into the rows of `parent`. The whole page is one transaction.
   * - A new name is inserted; a new directory has mtime 0.
   * - A file with the same ETag gets `validatedAtMs = startedAtMs`, and size and times if it is incomplete. If its Last-Modified is another
   *   than the row's, the row also becomes incomplete, since somebody may have replaced the metadata; an unknown one is taken over.
   * - A file with another ETag gets a new row, and the old one is detached. A listing shows symbolic links as files.
   * - A directory row stays as it is but for `validatedAtMs` and `marker`.
   * - A name listed as both is a directory: it replaces a file at once; a file waits until `sweep` has detached the directory, and is
   *   found by the next listing (or a lookup).
   * - Rows that are dirty, or validated at or after `startedAtMs` (a local change made while the listing ran), are left alone.
   */
  applyListing(parent: NodeId, names: readonly ListedName[], startedAtMs: number): AppliedListing;
  /**
   * After the last page: detaches rows of `parent` that no page named (clean, `validatedAtMs < startedAtMs`) and returns them. Looks at
   * INDEX_BATCH rows with `id > after`: start with 0, go on with `next` until that is undefined, then set `listedAtMs`.
   */
  sweep(parent: NodeId, startedAtMs: number, after: number): Sweep;
  count(): number;
  /** The highest id that was ever given to a node. */
  lastId(): NodeId;
}

/** What the block cache has of one content. */
export interface ContentRow {
  readonly id: ContentId;
  readonly sizeBytes: number;
  /** One CRC-32 per block, 0 = block absent (a true CRC of 0 is stored as 1). */
  readonly checksums: Uint32Array;
  /** Bytes of present blocks. */
  readonly presentBytes: number;
  /** Last use, ms since the epoch. */
  readonly usedAtMs: number;
}

export interface ContentTable {
  /** A new id, never used before. The row appears with the first `put`. */
  allocate(): ContentId;
  get(id: ContentId): ContentRow | undefined;
  put(row: ContentRow): void;
  /** Several at once, in one transaction (last-use times of contents that were read). */
  touch(uses: ReadonlyMap<ContentId, number>): void;
  delete(ids: readonly ContentId[]): void;
  /** The least recently used first, at most `limit`. */
  oldest(limit: number): readonly Pick<ContentRow, 'id' | 'presentBytes' | 'usedAtMs'>[];
  /** Ids above the given one, in order, at most `limit`. */
  ids(after: number, limit: number): readonly ContentId[];
  totalPresentBytes(): number;
  deleteAll(): void;
}

/** A staging file: changes of one node that the bucket does not have yet. */
export interface StagingRow {
  /** A new file that must not replace an object that somebody else made meanwhile. */
  readonly isExclusive: boolean;
  readonly node: NodeId;
  /** File name within the staging directory. */
  readonly file: string;
  /** How much of the node's old content (from offset 0) still shows through where the staging file has holes. */
  readonly baseSizeBytes: number;
  readonly createdAtMs: number;
  /** The last upload error, in words, or undefined. */
  readonly error: string | undefined;
  /** What the last fsync made safe against loss of power; undefined: nothing yet. */
  readonly durable: DurableStaging | undefined;
  /** Of the version that an upload was going to make, of which nobody knows yet whether it did. */
  readonly expectedEtag: string | undefined;
}

export interface DurableStaging {
  readonly baseSizeBytes: number;
  readonly present: readonly Extent[];
}

/** A change of the bucket's namespace that was begun and must come to its end, whatever happens in between. */
export type IntentAction =
  | {
      readonly kind: 'rename';
      readonly node: NodeId;
      readonly fromKey: string;
      readonly toKey: string;
      /** The version that is moved: what was put under the old key since then stays there. */
      readonly etag: string;
      /** Where the node goes. */
      readonly to: NodeId;
      readonly name: string;
      /** The version that the new key had before; undefined: none. */
      readonly replaces: string | undefined;
      readonly phase: MovePhase;
    }
  | ({ readonly kind: 'renameTree'; readonly node: NodeId; readonly phase: MovePhase } & MovedTree)
  /** The originals of a tree whose copies are all there, and have the name. */
  | ({ readonly kind: 'removeTree' } & MovedTree)
  /** `etag`: what was put under the key since then stays there; undefined: not known. */
  | { readonly kind: 'delete'; readonly key: string; readonly etag: string | undefined };

/** `undoing`: the caller was told that it failed, and nobody may find it done later. */
export type MovePhase = 'copying' | 'undoing';

export interface MovedTree {
  readonly fromPrefix: string;
  readonly toPrefix: string;
  /** Where the marker of the directory is, if it has one. */
  readonly markerKey: string;
  /** The new prefix has a marker of its own, which is replaced once the move cannot be taken back any more. */
  readonly keepsMarker: boolean;
  /** Names the file that lists what is copied. */
  readonly list: string;
}

export interface IntentRow {
  readonly id: number;
  readonly action: IntentAction;
  readonly createdAtMs: number;
  readonly error: string | undefined;
}

export interface PendingTable {
  putStaging(row: StagingRow): void;
  getStaging(node: NodeId): StagingRow | undefined;
  /** With its extents. */
  deleteStaging(node: NodeId): void;
  /** Notes one extent that the staging file holds; stored extents that start within it, or at its end, become part of it. */
  putExtent(node: NodeId, extent: Extent): void;
  /** Replaces all extents of the node. */
  setExtents(node: NodeId, extents: readonly Extent[]): void;
  /** In order of position. */
  extents(node: NodeId): readonly Extent[];
  /** In order of node id, after the given one, at most `limit`. */
  stagings(afterNode: number, limit: number): readonly StagingRow[];
  addIntent(action: IntentAction, createdAtMs: number): number;
  /** What is begun goes on as something else; an earlier error is forgotten. */
  setIntent(id: number, action: IntentAction): void;
  failIntent(id: number, error: string): void;
  deleteIntent(id: number): void;
  /** In order of creation. */
  intents(afterId: number, limit: number): readonly IntentRow[];
  counts(): { readonly stagings: number; readonly intents: number };
}

/** An open description of the kernel that the next process must know of. */
export interface OpenRow {
  readonly handle: number;
  readonly node: NodeId;
  /** open(2)'s. */
  readonly flags: number;
  /** Of FUSE passthrough; 0: none. */
  readonly backingId: number;
  /** Of the file behind it; 0: none, or not known. */
  readonly backingInode: number;
}

export interface OpenTable {
  put(row: OpenRow): void;
  delete(handle: number): void;
  /** In order of handle, after the given one, at most `limit`. */
  list(afterHandle: number, limit: number): OpenRow[];
  clear(): void;
}

export interface Index {
  /** When it was last written to before it was opened, milliseconds since the epoch by the wall clock of that time; 0: never. */
  readonly lastWriteMs: number;
  readonly nodes: NodeTable;
  readonly contents: ContentTable;
  readonly pending: PendingTable;
  readonly opens: OpenTable;
  /** Small facts that survive: format version, what an endpoint supports, bus position. */
  getFact(name: string): string | undefined;
  setFact(name: string, value: string): void;
  /** All or nothing; may be nested. */
  transaction<T>(body: () => T): T;
  /** Resolves when everything committed before the call is on stable storage. Calls made meanwhile share one fdatasync. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** The database is damaged or made by a newer version; `message` says what to do. */
export class IndexError extends Error {
  readonly reason: 'damaged' | 'newer' | 'busy';
  constructor(reason: 'damaged' | 'newer' | 'busy', message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'IndexError';
    this.reason = reason;
  }
}
