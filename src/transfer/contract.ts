/**
 * Transfers: bytes between the bucket, the block cache and staging files. Single-flight, pinned to one version, bounded in
 * memory and connections. Knows neither nodes nor errno.
 */
import type { Extent } from '../base/extents.ts';
import type { ContentId } from '../base/ids.ts';
import type { FileSlice, Slice } from '../cache/contract.ts';
import type { ObjectAttributes, ObjectHead } from '../store/contract.ts';

/** One object version to read. */
export interface Source {
  /** Asked for at each request: a rename moves the object while readers have it open. */
  readonly key: () => string;
  readonly etag: string;
  readonly sizeBytes: number;
  readonly content: ContentId;
  /** Bytes that were read turned out not to be the object's: whoever keeps them must let them go. */
  readonly onDamage?: () => void;
}

/**
 * Reads of one version. A version that was replaced in the bucket meanwhile rejects with the store's `PreconditionFailed`;
 * one that was deleted, with `NotFound`. What is cached stays readable in both cases.
 */
export interface ContentReader {
  readonly source: Source;
  /** Up to `lengthBytes` from `offset`; shorter only at the end of the object. Starts read-ahead when reads look sequential. */
  read(offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Slice>;
  /** The same, as bytes (for callers that need them in memory; at most 8 MiB at once). */
  readBytes(offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Uint8Array>;
  /** Resolves when the whole object is in the cache and compared with its MD5 if it has one, true, or cannot be kept there, false. */
  fetchAll(signal?: AbortSignal): Promise<boolean>;
  readonly isComplete: boolean;
  /** As of `CachedContent`, once a comparison that is under way is over. */
  whole(mayBeUnchecked: boolean): Promise<FileSlice | undefined>;
  moveOut(path: string, fd: number): Promise<boolean>;
  /** Ends read-ahead; reads under way finish. */
  close(): void;
}

export interface Downloader {
  /**
   * GET of the first block of a key that nobody listed: attributes and content in one round trip. The bytes go into the cache
   * under `allocate()`'s id when kept. An empty object costs one further HEAD on stores that answer a range with 416.
   */
  first(
    key: string,
    allocate: () => ContentId,
    signal?: AbortSignal,
  ): Promise<{ readonly head: ObjectHead; readonly content: ContentId }>;
  open(source: Source): Promise<ContentReader>;
  /** Bytes held in memory now, and the limit. */
  usage(): { readonly memoryBytes: number; readonly memoryLimitBytes: number; readonly inFlight: number };
  close(): Promise<void>;
}

export interface UploadJob {
  readonly key: string;
  /** Open staging file; read with positions, never closed here. */
  readonly fd: number;
  readonly sizeBytes: number;
  readonly attributes: ObjectAttributes;
  /** Create only (O_EXCL): fails with `PreconditionFailed` when the key exists, where the store can. */
  readonly exclusive: boolean;
  /**
   * The version in the bucket whose bytes the file repeats outside of `changed`; absent: everything is new. Parts without a
   * change are copied on the server.
   */
  readonly base:
    | { readonly key: string; readonly etag: string; readonly sizeBytes: number; readonly changed: readonly Extent[] }
    | undefined;
  /** Told before the object can appear: the ETag that it gets, where ETags follow from the content. */
  readonly expecting: (etag: string) => void;
  /** Makes the staging file hold `[offset, offset + length)` before it is read (fills in old content). */
  readonly prepare: (offset: number, lengthBytes: number) => Promise<void>;
  readonly signal?: AbortSignal;
}

export interface UploadResult {
  readonly etag: string;
  readonly lastModifiedMs: number | undefined;
  readonly multipart: boolean;
  /** Of the blocks that were sent, as the cache wants them; where they were all in memory at once. */
  readonly checksums?: Uint32Array;
}

export interface Uploader {
  /** PUT when small, multipart in parallel when large. On failure nothing is left behind in the bucket (multipart aborted). */
  upload(job: UploadJob): Promise<UploadResult>;
  /**
   * Whether the file's bytes are those that the ETag names: an MD5, or the multipart form that this uploader's own part size gives.
   * False when the ETag cannot tell. Reads and hashes the file in another thread.
   */
  matches(fd: number, sizeBytes: number, etag: string): Promise<boolean>;
  /** Hex MD5 of a file, read and hashed in another thread. */
  digest(fd: number, sizeBytes: number): Promise<string>;
}

export interface Mover {
  /** Server-side copy of any size (parts above 5 GiB, in parallel). */
  copy(
    fromKey: string,
    toKey: string,
    object: { readonly etag: string; readonly sizeBytes: number },
    attributes: ObjectAttributes | undefined,
  ): Promise<UploadResult>;
  /** Deletes one key. Calls within a few milliseconds share one batch request; within more of them where nobody waits (`isPatient`). */
  delete(key: string, isPatient?: boolean): Promise<void>;
  /** Somebody waits now. */
  hurryDeletes(): void;
  /** The same, of one version: what was put under the key since then stays. `etag` undefined: whatever is there. */
  deleteVersion(key: string, etag: string | undefined): Promise<void>;
  /**
   * Copies everything below the prefix, several at once, and notes it in the list of the move, so that it can be taken back or the originals be
   * removed, after a crash too. May be repeated. Resolves with the number of objects.
   */
  copyTree(move: TreeMove): Promise<number>;
  /** Deletes the copies, and nothing else, while their originals are there. May be repeated. */
  undoTree(move: TreeMove): Promise<void>;
  /**
   * Once all copies are there: replaces the marker that was to be kept till then, and deletes the originals of what was copied. May be repeated;
   * with `checked` then, since somebody may have written to the source: those versions stay.
   */
  removeTree(move: TreeMove, how: { readonly checked: boolean }): Promise<void>;
  /** The move is done: removes its list. */
  forgetTree(move: TreeMove): Promise<void>;
  /** Removes the lists of moves that nobody will ask about again: all but those. Before another begins. */
  forgetOthers(lists: ReadonlySet<string>): Promise<void>;
}

export interface TreeMove {
  readonly fromPrefix: string;
  readonly toPrefix: string;
  /** Where the marker of the directory is, if it has one: the prefix itself, or another key. It becomes `toPrefix`. */
  readonly markerKey: string;
  /** `toPrefix` has an object that must stay until nothing is taken back any more. */
  readonly keepsMarker: boolean;
  /** File name of what is noted, one for each move: it begins with `move-`. */
  readonly list: string;
}
