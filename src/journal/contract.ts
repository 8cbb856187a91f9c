/**
 * The journal: what was written here and is not in the bucket yet. A staging file holds the changed bytes of one node, a row
 * in the index says so; intents are namespace changes that were begun. Knows neither FUSE nor S3: it keeps, it does not send.
 */
import type { Extents } from '../base/extents.ts';
import type { NodeId } from '../base/ids.ts';
import type { IntentAction, IntentRow } from '../index/contract.ts';

/** Partial writes are filled up to multiples of this from the old content, so that holes in the file are exactly what is missing. */
export const STAGING_BLOCK_BYTES = 4096;

/**
 * The changed content of one node, as a sparse file. What `present` does not cover is, below `baseSizeBytes`, still the old
 * content's, and above it zero. `present` can be rebuilt from the file itself with SEEK_DATA after a crash.
 */
export interface Staging {
  readonly node: NodeId;
  readonly fd: number;
  readonly path: string;
  /** Current size of the file as its users see it. */
  readonly sizeBytes: number;
  readonly baseSizeBytes: number;
  /** Bytes that the staging file holds, aligned to STAGING_BLOCK_BYTES except at the end. */
  readonly present: Extents;
  /** Bytes that differ, or may differ, from the old content. A subset of present, plus everything past `baseSizeBytes`. */
  readonly dirty: Extents;
  /** Grows with every change; equal values mean nothing was changed in between. */
  readonly version: number;
  /** True when reads need nothing of the old content. */
  readonly isComplete: boolean;
  /** Parts of `[offset, offset + length)` that must come from the old content before the range can be read. */
  missing(offset: number, lengthBytes: number): { offset: number; lengthBytes: number }[];
  /** The parts of the old content that must be filled in before `[offset, offset + length)` is written: at most two blocks. */
  missingForWrite(offset: number, lengthBytes: number): { offset: number; lengthBytes: number }[];
  /** Old content for a missing range: present, not dirty. Bytes that became present meanwhile are not overwritten. */
  fill(offset: number, bytes: Uint8Array): Promise<void>;
  /** To be called after bytes were written to `fd` by somebody else (the driver). */
  noteWritten(offset: number, lengthBytes: number): void;
  write(offset: number, bytes: Uint8Array): Promise<void>;
  truncate(sizeBytes: number): Promise<void>;
  /** fdatasync. */
  sync(): Promise<void>;
  /** Everything up to `version` is in the bucket now: dirty becomes empty if nothing changed since. Returns whether it did. */
  noteUploaded(version: number): boolean;
}

export interface Journal {
  /** A staging file for the node: the one that exists, or a new one over `baseSizeBytes` bytes of old content. */
  stage(node: NodeId, baseSizeBytes: number): Promise<Staging>;
  /** The staging file of the node, if there is one and it is open. */
  find(node: NodeId): Staging | undefined;
  /** Remembers why the upload failed; shown by `status` and `pending`. */
  noteFailure(node: NodeId, error: string): void;
  /** Closes and deletes the staging file and its row (nothing to upload any more). */
  discard(node: NodeId): Promise<void>;
  /** Like discard, but leaves the file at `path` for the caller to take over (the block cache adopts it). */
  detach(node: NodeId): Promise<{ readonly path: string; readonly sizeBytes: number }>;
  /** Reopens the staging files that the last run left. Files without a row are moved to `lost+found` and logged, never deleted. */
  recover(): Promise<readonly Staging[]>;
  begin(action: IntentAction): number;
  fail(id: number, error: string): void;
  done(id: number): void;
  /** Intents that an earlier run left. */
  unfinished(): readonly IntentRow[];
  /** Free bytes on the file system of the staging directory. */
  freeBytes(): Promise<number>;
  close(): Promise<void>;
}
