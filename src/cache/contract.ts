/**
 * The block cache: bytes of object versions on the local disk, one sparse file for each content plus one checksum for each
 * present block. Knows neither S3 nor errno. The directory may be deleted at any moment, even while mounted: the cost is
 * fetching again.
 */
import type { ContentId } from '../base/ids.ts';

/** Granularity of presence, checksums and fetching. */
export const BLOCK_BYTES = 256 * 1024;

/** A piece of a file that must stay open until `release`. Structurally what a kernel driver replies from. */
export interface FileSlice {
  readonly kind: 'file';
  readonly fd: number;
  readonly offset: number;
  readonly lengthBytes: number;
  readonly release: () => void;
}

/** Bytes in memory, in order, which is theirs until `release`. */
export interface MemorySlice {
  readonly kind: 'memory';
  readonly pieces: readonly Uint8Array[];
  readonly release: () => void;
}

export type Slice = FileSlice | MemorySlice;

/** An open content. Open contents are never evicted as a whole file that others read; close it when the last reader is gone. */
export interface CachedContent {
  readonly id: ContentId;
  readonly sizeBytes: number;
  readonly blockCount: number;
  has(block: number): boolean;
  /** All blocks present. */
  readonly isComplete: boolean;
  /**
   * Stores one block (whole, or the shorter last one). False when it could not be kept: no room under the limits, disk full, directory
   * gone read-only. The caller serves the bytes from memory then. Never rejects for want of space. `isPageAligned`: the bytes begin at a page
   * of memory, and may go to the disk past the page cache.
   */
  put(block: number, bytes: Uint8Array, isPageAligned?: boolean): Promise<boolean>;
  /**
   * A readable piece, when all its blocks are present. Blocks are verified against their checksum on first use in this process; a
   * damaged or vanished block is forgotten, logged, and the answer is undefined: fetch again.
   */
  slice(offset: number, lengthBytes: number): Promise<FileSlice | undefined>;
  /**
   * All of the file, when it is complete and each block was compared lately (or nobody cares). Others may read it until it is released: it
   * is not evicted, and keeps its bytes when it is deleted.
   */
  whole(mayBeUnchecked: boolean): Promise<FileSlice | undefined>;
  /**
   * Gives the file that `whole` gave away for good, for others to write to: it is at `path` then, and no block is present any more. False
   * when it is not the content's file any more, or cannot be moved there. Rejects with the errors of rename(2).
   */
  moveOut(path: string, fd: number): Promise<boolean>;
  /** The bytes are not those of the object: all blocks are forgotten, and count as damaged. */
  discard(): void;
  close(): void;
}

export interface CacheUsage {
  readonly bytes: number;
  readonly limitBytes: number;
  /** Descriptors held open. */
  readonly openFiles: number;
  readonly evictedFiles: number;
  readonly damagedBlocks: number;
  readonly refusedBlocks: number;
}

export interface VerifyOptions {
  /** Damaged blocks are forgotten, and fetched again when somebody wants them; stray files are removed. */
  readonly repair: boolean;
  readonly signal?: AbortSignal;
  readonly onFinding: (finding: CacheFinding) => void;
}

export type CacheFinding =
  /** So many blocks of the content are not what was put there, or cannot be read. */
  | { readonly kind: 'damaged'; readonly content: ContentId; readonly blocks: number }
  /** Somebody deleted the content's file: so many blocks are gone. */
  | { readonly kind: 'vanished'; readonly content: ContentId; readonly blocks: number }
  /** What the index says of the content makes no sense. */
  | { readonly kind: 'nonsense'; readonly content: ContentId }
  /** A cache file that no content has: space lost, nothing else. */
  | { readonly kind: 'stray'; readonly path: string };

/** What `verify` looked at. */
export interface CacheVerdict {
  readonly contents: number;
  readonly blocks: number;
  readonly bytes: number;
  readonly findings: number;
}

export interface BlockCache {
  open(id: ContentId, sizeBytes: number): Promise<CachedContent>;
  /**
   * Takes over a complete file as the content, by rename where it is on the same file system, by copy otherwise. Returns
   * false (and leaves nothing behind) when there is no room. The file at `path` is gone afterwards either way. `checksums`: those of its
   * blocks, as `checksumsOf` makes them; where they are not known it is read for them.
   */
  adopt(id: ContentId, sizeBytes: number, path: string, checksums?: Uint32Array): Promise<boolean>;
  /** The version is gone: forget its bytes. Open readers keep what they have. */
  remove(id: ContentId): void;
  /** Notes a use that the cache cannot see (an open answered by the kernel or by native threads). */
  touch(id: ContentId): void;
  /**
   * Reads every present block and compares it with its checksum, one after the other, also while files are read and written. Memory stays
   * small whatever the cache holds. Rejects with the errors of reading directories; with the signal's reason when that is given.
   */
  verify(options: VerifyOptions): Promise<CacheVerdict>;
  usage(): CacheUsage;
  close(): Promise<void>;
}

export interface CacheOptions {
  /** Absolute; created 0700 when missing. */
  readonly directory: string;
  /** At most so many bytes of blocks on disk. */
  readonly limitBytes: number;
  /** Leave at least so many bytes free on the file system. */
  readonly minFreeBytes: number;
  /** False: only to be looked at. Nothing is removed at the start, neither stray files nor what is over the limits. */
  readonly tidy?: boolean;
}
