/**
 * The file system as the kernel asks for it. A driver (the native session, or the portable one over `fuse-native`) decodes
 * requests, calls these operations and encodes what they return. Nothing here knows keys, ETags or SQLite, and nothing
 * behind this interface knows wire bytes.
 *
 * Operations may answer at once or with a promise. They fail by throwing; `errnoOf` turns what they throw into the number
 * that the caller of the system call sees. Node ids and offsets are below 2^53.
 */
import type { Timespec } from '../base/clock.ts';
import type { NodeId } from '../base/ids.ts';

export type Answer<T> = T | Promise<T>;

/** `st_mode`'s type bits are part of `mode`. */
export interface Attributes {
  /** `st_ino`: the same on every server and across restarts, unlike the node id. */
  readonly ino: bigint;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  /** 512-byte blocks. */
  readonly blocks: number;
  readonly atime: Timespec;
  readonly mtime: Timespec;
  readonly ctime: Timespec;
}

export interface AttributesReply {
  readonly attributes: Attributes;
  /** How long the kernel may believe them. */
  readonly ttlMs: number;
}

export interface Entry extends AttributesReply {
  readonly node: NodeId;
  /** How long the kernel may believe that the name leads to this node. */
  readonly entryTtlMs: number;
}

/** A name that is known to be missing, and for how long (FUSE: node id 0). */
export interface NegativeEntry {
  readonly node: undefined;
  readonly entryTtlMs: number;
}

/** Who asks. `signal` is created on first use and aborted by FUSE_INTERRUPT. */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  readonly signal: AbortSignal;
  /** An earlier worker had this request too, and died before it answered: all of it may have been done already, or a part. */
  readonly isResent: boolean;
}

/** An open description that a successor of this process must know of. */
export interface OpenRecord {
  /** What RELEASE will name. */
  readonly handle: number;
  readonly node: NodeId;
  /** open(2)'s. */
  readonly flags: number;
  /** 0: not in passthrough. */
  readonly backingId: number;
  /** Of the file that the kernel has for it; 0: there is none, or it is not known. */
  readonly backingInode: number;
}

/** Keeps them beyond the end of this process. Calls are synchronous: what was noted holds before the kernel has the reply. */
export interface OpenRecords {
  put(record: OpenRecord): void;
  delete(handle: number): void;
}

export type SetTime = Timespec | 'now';

export interface AttributeChange {
  readonly sizeBytes?: number;
  /** Permission bits (the type bits of the node stay). */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly atime?: SetTime;
  readonly mtime?: SetTime;
  /**
   * Clear set-uid and set-gid with this change (FATTR_KILL_SUIDGID, and every change of owner). Not of directories, and
   * set-gid only where the group may execute.
   */
  readonly killPrivileges?: boolean;
}

export interface OpenReply {
  /** FOPEN_KEEP_CACHE: the page cache of this node is still true. */
  readonly keepCache: boolean;
  /** FOPEN_DIRECT_IO: also where the node is open in passthrough, READ and WRITE are sent. For files that are not what the kernel has for them. */
  readonly directIo?: boolean;
  /**
   * A file that holds the node's whole content, and is it until the last release: what is changed in one changes in the other. The driver
   * may register it for FUSE passthrough; otherwise it sends READ and WRITE as usual. The fd stays owned by the file system and must stay
   * open until the node's last release.
   */
  readonly backingFd?: number;
}

/** Bytes for the kernel: a piece of a file (never crosses into JavaScript), or of memory. Shorter than asked means end of file. */
export type ReadReply =
  | {
      readonly kind: 'file';
      readonly fd: number;
      readonly offset: number;
      readonly lengthBytes: number;
      /** Called once when the driver no longer needs the fd. */
      readonly release: () => void;
    }
  | {
      readonly kind: 'memory';
      /** In order. */
      readonly pieces: readonly Uint8Array[];
      /** Called once when the driver no longer needs the bytes. */
      readonly release: () => void;
    };

/** The bytes of a WRITE, still in the driver's buffer. Valid until the operation answers. */
export interface WritePayload {
  readonly lengthBytes: number;
  /** Writes all of them to a file on a native thread. Rejects with a Node system error (`code`, `errno`). */
  toFile(fd: number, offset: number): Promise<void>;
  bytes(): Uint8Array;
}

export interface DirectoryEntry {
  readonly name: string;
  /** Where to continue after this entry. Stable while the directory changes. */
  readonly nextOffset: number;
  readonly ino: bigint;
  /** Type bits of `st_mode`. */
  readonly typeMode: number;
  /** Present for READDIRPLUS: gives the kernel a dentry and attributes too. Absent: only the name. */
  readonly entry?: Entry;
}

export interface FileSystemStatus {
  readonly blockSizeBytes: number;
  readonly blocks: number;
  readonly blocksFree: number;
  readonly files: number;
  readonly filesFree: number;
  readonly maxNameBytes: number;
}

export type RenameFlags = { readonly noReplace: boolean };

export interface Operations {
  lookup(caller: Caller, parent: NodeId, name: string): Answer<Entry | NegativeEntry>;
  /** The kernel dropped `count` references to the node. No reply. */
  forget(node: NodeId, count: number): void;
  getAttributes(caller: Caller, node: NodeId): Answer<AttributesReply>;
  setAttributes(caller: Caller, node: NodeId, change: AttributeChange): Answer<AttributesReply>;
  readLink(caller: Caller, node: NodeId): Answer<string>;
  makeSymlink(caller: Caller, parent: NodeId, name: string, target: string): Answer<Entry>;
  /** `mode` includes the type bits; only regular files are possible, others fail with EPERM. */
  makeNode(caller: Caller, parent: NodeId, name: string, mode: number): Answer<Entry>;
  makeDirectory(caller: Caller, parent: NodeId, name: string, mode: number): Answer<Entry>;
  unlink(caller: Caller, parent: NodeId, name: string): Answer<void>;
  removeDirectory(caller: Caller, parent: NodeId, name: string): Answer<void>;
  rename(
    caller: Caller,
    parent: NodeId,
    name: string,
    newParent: NodeId,
    newName: string,
    flags: RenameFlags,
  ): Answer<void>;
  /**
   * `flags` are open(2)'s. With O_TRUNC (FUSE_ATOMIC_O_TRUNC) the file is also cut to zero, and with `killPrivileges`
   * loses set-uid and set-gid.
   */
  open(caller: Caller, node: NodeId, flags: number, killPrivileges: boolean): Answer<OpenReply>;
  create(
    caller: Caller,
    parent: NodeId,
    name: string,
    mode: number,
    flags: number,
  ): Answer<{ readonly entry: Entry; readonly open: OpenReply }>;
  read(caller: Caller, node: NodeId, offset: number, lengthBytes: number): Answer<ReadReply>;
  write(
    caller: Caller,
    node: NodeId,
    offset: number,
    payload: WritePayload,
    options: { readonly killPrivileges: boolean },
  ): Answer<number>;
  /** Each close(2) of a descriptor that may have changed the file. Returns when the content is as durable as the mount promises. */
  flush(caller: Caller, node: NodeId): Answer<void>;
  fsync(caller: Caller, node: NodeId): Answer<void>;
  /** The last close of one open. `flags` as at open. Its errors reach nobody. */
  release(node: NodeId, flags: number): Answer<void>;
  openDirectory(caller: Caller, node: NodeId): Answer<OpenDirectoryReply>;
  /**
   * Entries after `offset` (0 = from the start; `.` and `..` are included by the file system). `take` is called with each
   * entry and returns false when the reply is full: that entry must be given again next time.
   */
  readDirectory(
    caller: Caller,
    node: NodeId,
    offset: number,
    withEntries: boolean,
    take: (entry: DirectoryEntry) => boolean,
  ): Answer<void>;
  releaseDirectory(node: NodeId): Answer<void>;
  fsyncDirectory(caller: Caller, node: NodeId): Answer<void>;
  statFileSystem(caller: Caller): Answer<FileSystemStatus>;
  access(caller: Caller, node: NodeId, mask: number): Answer<void>;
  getXattr(caller: Caller, node: NodeId, name: string): Answer<Uint8Array>;
  listXattrs(caller: Caller, node: NodeId): Answer<readonly string[]>;
  /** `flags`: XATTR_CREATE 1, XATTR_REPLACE 2. */
  setXattr(caller: Caller, node: NodeId, name: string, value: Uint8Array, flags: number): Answer<void>;
  removeXattr(caller: Caller, node: NodeId, name: string): Answer<void>;
  /** `mode`: FALLOC_FL_* bits. */
  allocate(caller: Caller, node: NodeId, offset: number, lengthBytes: number, mode: number): Answer<void>;
  /** `whence`: SEEK_DATA 3 or SEEK_HOLE 4. */
  seek(caller: Caller, node: NodeId, offset: number, whence: number): Answer<number>;
  copyRange(
    caller: Caller,
    source: NodeId,
    sourceOffset: number,
    target: NodeId,
    targetOffset: number,
    lengthBytes: number,
  ): Answer<number>;
  /** The kernel unmounted the file system. No reply. */
  destroy(): void;
  /** The one map from errors to errno. Returns a positive number. */
  errnoOf(error: unknown): number;
}

export interface OpenDirectoryReply {
  /** FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE: the kernel may keep, and still believes, its cached listing. */
  readonly cache: boolean;
  readonly keepCache: boolean;
}

/** What the driver may answer with by itself. Nothing of it may change before it is withdrawn. */
export interface HotNode {
  readonly attributes: Attributes;
  /** How long it may be believed. */
  readonly ttlMs: number;
  /** Holds the whole content. Stays the caller's. Absent: the one published before, or none: READ is an operation then. */
  readonly fd?: number | undefined;
}

/**
 * Regular files for which the driver answers by itself, on native threads: opens for reading, their releases, attributes, reads.
 * These operations are not called then.
 */
export interface HotNodes {
  /** Replaces what is published of the node. Returns false when it could not be. */
  publish(node: NodeId, hot: HotNode): boolean;
  /** Returns how many opens were answered and are not released: `release` will be called for them. */
  withdraw(node: NodeId): number;
  /** No node ever has extended attributes whose names begin otherwise: `getXattr` need not be called for them. */
  limitXattrs(prefixes: readonly string[]): void;
}

/** What the file system may tell the kernel unasked. Each returns at once; a native thread does the work (and may wait). */
export interface Notifier {
  /** FUSE_NOTIFY_INVAL_ENTRY: look this name up again. */
  invalidateEntry(parent: NodeId, name: string): void;
  /** FUSE_NOTIFY_INVAL_INODE: attributes, and page cache from `offset` on (`lengthBytes` 0 = to the end, negative offset = attributes only). */
  invalidateNode(node: NodeId, offset: number, lengthBytes: number): void;
}
