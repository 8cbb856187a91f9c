/**
 * The journal: what was written here and is not in the bucket yet. A staging file holds the changed bytes of one node, a row
 * in the index says so; intents are namespace changes that were begun. Knows neither FUSE nor S3: it keeps, it does not send.
 */
import type { Timespec } from '../base/clock.ts';
import type { Extent, Extents } from '../base/extents.ts';
import type { NodeId } from '../base/ids.ts';
import type { IntentAction, IntentRow, NodeFields } from '../index/contract.ts';

/** More extents than this in one staging file, and writes are widened to STAGING_BLOCK_BYTES so that their number stays bounded. */
export const STAGING_EXTENTS_LIMIT = 1024;

/** Below the staging directory: what is kept though nobody knows what to do with it. */
export const LOST_AND_FOUND = 'lost+found';

/** What `missingForWrite` widens a write to, in a staging file of very many extents. */
export const STAGING_BLOCK_BYTES = 256 * 1024;

/**
 * The changed content of one node, as a sparse file of the same size. What `present` does not cover is, below `baseSizeBytes`,
 * still the old content's, and above it zero.
 *
 * Order of a write: fill what `missingForWrite` names (nothing, as a rule: extents are exact to the byte), then `writeBy`. It
 * waits for fills and writes of the same bytes, and resolves when the bytes are in the file *and* the index says so: a write may
 * be acknowledged then, and survives a crash of this process. A fill that meets a write waits for it and leaves its bytes alone.
 * Order of a read: fill what `missing` names, then read from `fd`.
 */
export interface Staging {
  readonly node: NodeId;
  readonly fd: number;
  readonly path: string;
  /** Current size of the file as its users see it. */
  readonly sizeBytes: number;
  /** Shrinks with truncations, never grows again until `noteUploaded`. At most sizeBytes. */
  readonly baseSizeBytes: number;
  /** Bytes that need nothing of the old content. Covers everything from `baseSizeBytes` on. */
  readonly present: Extents;
  /** Bytes that differ, or may differ, from the old content. A subset of present. After a crash: all of present. */
  readonly dirty: Extents;
  /** When the file was last written to, as an earlier process left it; undefined: this process made it. */
  readonly leftAt: Timespec | undefined;
  /** What the last upload was going to make, when nobody knows whether it did: its answer was lost, or its process died. */
  readonly expectedEtag: string | undefined;
  /** A new file that must not replace an object that somebody else made meanwhile. Until it is uploaded, or `noteOwn`. */
  readonly isExclusive: boolean;
  /** Grows with every change; equal values mean nothing was changed in between. */
  readonly version: number;
  /** True when reads need nothing of the old content. */
  readonly isComplete: boolean;
  /** Parts of `[offset, offset + length)` that must come from the old content before the range can be read. */
  missing(offset: number, lengthBytes: number): { offset: number; lengthBytes: number }[];
  /** Parts of the old content that must be filled in before `[offset, offset + length)` is written. */
  missingForWrite(offset: number, lengthBytes: number): { offset: number; lengthBytes: number }[];
  /** Old content for a missing range: present, not dirty. Bytes that became present meanwhile are not overwritten. */
  fill(offset: number, bytes: Uint8Array): Promise<void>;
  /**
   * A write by somebody else (the driver): `put` writes exactly these bytes to `fd` and rejects when it could not; nothing is noted then
   * but what was present before (bytes written in part over present ones stay, as after a failed pwrite).
   */
  writeBy(offset: number, lengthBytes: number, put: (fd: number) => Promise<void>): Promise<void>;
  write(offset: number, bytes: Uint8Array): Promise<void>;
  truncate(sizeBytes: number): Promise<void>;
  /**
   * For a complete file that others write to unseen (FUSE passthrough): looks at size and times of the file, and when they changed since
   * the last look, everything is dirty. Returns whether they did (when in doubt, true). The first call only looks: make it before
   * `fd` is given away.
   */
  noteUnseenWrites(): Promise<boolean>;
  /**
   * For the same case: gives the file this time of modification, so that a later write shows by changing it. Everything is dirty then, as
   * a write at the same moment would not have shown.
   */
  setTime(mtime: Timespec): Promise<void>;
  /** For the same case, when the content was found to differ though the file's times did not tell: everything is dirty. */
  noteAllChanged(): void;
  /** Everything written before the call survives a loss of power: file and index are flushed. */
  sync(): Promise<void>;
  /** The object that the bucket has is our own, and may be replaced. */
  noteOwn(): void;
  /** To be called before an upload appears in the bucket. */
  noteUploading(expectedEtag: string): void;
  /**
   * Everything up to `version` is in the bucket now. If nothing changed since, dirty becomes empty, all of the content is base, and the answer is
   * true. (Whether a recovered staging file is still owed to the bucket, the node's `dirty` says.)
   */
  noteUploaded(version: number): boolean;
  /** Keeps `fd` open until the returned function is called, across `discard` and `handOver` too. */
  hold(): () => void;
}

/** A staging file that the index knows nothing of (it was lost), and that tells itself what it is. */
export interface Stray {
  /** Its name in the staging directory. */
  readonly file: string;
  /** In the mount, without a leading slash. */
  readonly path: string;
  /** What the node was; ETag and size are of the version that the file is laid over. */
  readonly node: Omit<NodeFields, 'parent' | 'name'>;
  /** It needs nothing of that version. */
  readonly isComplete: boolean;
  readonly sizeBytes: number;
  readonly mtimeMs: number;
  readonly baseSizeBytes: number;
  readonly present: readonly Extent[];
  readonly createdAtMs: number;
  readonly isExclusive: boolean;
}

export interface Journal {
  /** A staging file for the node: the one that exists, or a new one over `baseSizeBytes` bytes of old content. `isExclusive`: see `Staging`. */
  stage(node: NodeId, baseSizeBytes: number, isExclusive?: boolean): Promise<Staging>;
  /**
   * A staging file that holds the old content already: `move` puts it at the path. undefined, and nothing is left behind, when it returns
   * false. Rejects with its errors.
   */
  stageOver(node: NodeId, sizeBytes: number, move: (path: string) => Promise<boolean>): Promise<Staging | undefined>;
  /** The staging file of the node, if there is one and it is open. */
  find(node: NodeId): Staging | undefined;
  /** Remembers why the upload failed; shown by `status` and `pending`. The file tells what it is, also without the index, when this resolves. */
  noteFailure(node: NodeId, error: string): Promise<void>;
  /** A copy of the staging file that stays in `lost+found`, whatever becomes of the node. Logged with the reason. */
  keepCopy(node: NodeId, reason: string): Promise<void>;
  /** Closes and deletes the staging file and its row (nothing to upload any more). */
  discard(node: NodeId): Promise<void>;
  /**
   * Like discard, but `take` has the file at `path`, and leaves nothing there (the block cache adopts it). Only for content that is in the bucket:
   * after a crash the file is deleted. Rejects with the errors of `take`.
   */
  handOver(node: NodeId, take: (path: string, sizeBytes: number) => Promise<unknown>): Promise<void>;
  /**
   * Reopens the staging files that the last run left; called once, before `stage`. Files that nobody knows are moved to `lost+found` and logged,
   * never deleted. So are files that were never synced when the machine (not just the process) went down: their bytes cannot be trusted.
   */
  recover(): Promise<readonly Staging[]>;
  /** What `recover` found besides; each is to be given to `adopt` or to `setAside`. */
  strays(): readonly Stray[];
  /** The stray is the staging file of this node, which is laid over the version that the node names. */
  adopt(stray: Stray, node: NodeId): Promise<Staging>;
  /** Moves the stray to `lost+found`, and logs it with the reason. */
  setAside(stray: Stray, reason: string): Promise<void>;
  /** The node has another path or other attributes now, or no name any more. */
  noteMoved(node: NodeId): void;
  /** The same for all nodes that have a staging file: a directory was moved. */
  noteAllMoved(): void;
  /** Survives a crash of this process; call `sync` where it has to survive one of the machine. */
  begin(action: IntentAction): number;
  /** What was begun goes on as something else: in one transaction with what has changed. */
  become(id: number, action: IntentAction): void;
  fail(id: number, error: string): void;
  done(id: number): void;
  /** All that was said here survives a crash of the machine. */
  sync(): Promise<void>;
  /** Intents that are not done. */
  unfinished(): readonly IntentRow[];
  /** Free bytes on the file system of the staging directory. */
  freeBytes(): Promise<number>;
  close(): Promise<void>;
}
