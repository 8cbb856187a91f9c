/**
 * The object store, as the rest of tsfs sees it: keys, versions named by ETag, bytes and metadata.
 *
 * Nothing here knows paths, nodes or the cache. Implementations: `s3.ts` (any S3-compatible server) and `memory.ts`
 * (the reference, for unit tests); both pass `test/store/conformance.ts`. Retry, limits and tracing are decorators of
 * this same interface, stacked in `stack.ts`.
 */

/** System headers of an object that must survive a copy with replaced metadata. Absent means "not set". */
export interface ObjectHeaders {
  readonly contentType?: string;
  readonly cacheControl?: string;
  readonly contentDisposition?: string;
  readonly contentEncoding?: string;
  readonly contentLanguage?: string;
  /** HTTP date, verbatim. */
  readonly expires?: string;
}

/** What a writer sets on an object. */
export interface ObjectAttributes extends ObjectHeaders {
  /** User metadata without the `x-amz-meta-` prefix, names in lower case. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** What HEAD and GET tell. */
export interface ObjectHead extends ObjectAttributes {
  /** Without quotes. */
  readonly etag: string;
  readonly sizeBytes: number;
  /** Whole seconds, so that HEAD, LIST and copies tell the same of one version. */
  readonly lastModifiedMs: number;
}

/** What a listing tells of one object: no metadata. */
export interface ListedObject {
  readonly key: string;
  readonly etag: string;
  readonly sizeBytes: number;
  readonly lastModifiedMs: number;
}

/** One page of a listing: at most 1000 entries, may be fewer, may be empty while more follow. */
export interface ListPage {
  readonly objects: readonly ListedObject[];
  /** Each ends with the delimiter. Empty when no delimiter was asked for. */
  readonly prefixes: readonly string[];
}

/** The most that S3 names in one answer to a LIST, or takes in one batch of deletes. */
export const PAGE_ENTRIES = 1000;

export interface ListRequest {
  readonly prefix: string;
  /** '/' to stop at directories; absent for everything below the prefix. */
  readonly delimiter?: '/';
  /** Only what comes behind this key. With a delimiter: the key of an object. */
  readonly after?: string;
  /** Stop after about so many entries (a single page of at most that size is asked for). */
  readonly limit?: number;
  readonly signal?: AbortSignal;
}

export interface GetRequest {
  /** Absent: the whole object. A range that starts at or past the end is an `InvalidRange` error. */
  readonly range?: { readonly offset: number; readonly length: number };
  /** ETag without quotes; another version is a `PreconditionFailed` error. */
  readonly ifMatch?: string;
  /** ETag without quotes; the same version is a `NotModified` error. */
  readonly ifNoneMatch?: string;
  readonly signal?: AbortSignal;
}

export interface GetResult {
  /** `sizeBytes` is the size of the whole object, also when a range was asked for. */
  readonly head: ObjectHead;
  /** First byte of the body within the object. */
  readonly offset: number;
  /** Length of the body; a body that ends earlier rejects with a `Transport` error. */
  readonly lengthBytes: number;
  /** Must be consumed or `return()`ed, else the connection is held. */
  readonly body: ObjectBody;
}

/** Chunks as they come; or, where the transport can, piece by piece into memory that the reader brings. Not both. */
export interface ObjectBody extends AsyncIterable<Uint8Array> {
  /** Fills all of the target with the next bytes. Rejects as the iteration does, which is still to be ended with `return()`. */
  readonly fill?: ((target: Uint8Array) => Promise<void>) | undefined;
}

/** Bytes to send. `open` is called again for every attempt, so it must give the same bytes each time. */
export interface BodySource {
  readonly sizeBytes: number;
  /** Base64 MD5 of exactly these bytes; sent as Content-MD5, so a torn upload is refused by the store. */
  readonly md5?: string;
  /** Small bodies as bytes, large ones as a stream that reads a file. */
  open(): Uint8Array | AsyncIterable<Uint8Array>;
}

export interface PutRequest {
  readonly attributes: ObjectAttributes;
  /** Create only: an existing object is a `PreconditionFailed` error. */
  readonly ifNoneMatch?: '*';
  readonly signal?: AbortSignal;
}

export interface CopyRequest {
  /** Replace all metadata and headers by these; absent: keep those of the source. */
  readonly attributes?: ObjectAttributes;
  /** Copy only this version of the source. Ignored silently by some stores (Ceph RGW). */
  readonly ifMatch?: string;
  readonly signal?: AbortSignal;
}

/** What a write tells about the version that it made. */
export interface PutResult {
  readonly etag: string;
  /** The store's own time where the answer carries it (copies do), else undefined. */
  readonly lastModifiedMs?: number;
}

export interface PartResult {
  readonly partNumber: number;
  readonly etag: string;
}

export interface MultipartUpload {
  readonly key: string;
  readonly uploadId: string;
}

export interface DeleteFailure {
  readonly key: string;
  readonly error: StoreError;
}

export interface Cancelable {
  readonly signal?: AbortSignal;
}

export interface ObjectStore {
  /** For logs and `status`, e.g. `https://host/bucket`. Holds no secret. */
  readonly description: string;
  head(key: string, request?: Cancelable & { readonly ifNoneMatch?: string }): Promise<ObjectHead>;
  get(key: string, request?: GetRequest): Promise<GetResult>;
  put(key: string, body: BodySource, request: PutRequest): Promise<PutResult>;
  /** Server-side, up to 5 GiB; larger objects by `copyPart`. */
  copy(fromKey: string, toKey: string, request?: CopyRequest): Promise<PutResult>;
  /** Deleting what does not exist succeeds, as S3 has it. */
  delete(key: string, request?: Cancelable): Promise<void>;
  /** At most 1000 keys. Resolves with the keys that failed; those not named are gone. */
  deleteMany(keys: readonly string[], request?: Cancelable): Promise<readonly DeleteFailure[]>;
  /** In order of UTF-8 bytes. An iterator whose `next()` rejected may be asked again: for the same page. */
  list(request: ListRequest): AsyncIterable<ListPage>;
  createMultipart(key: string, request: PutRequest): Promise<MultipartUpload>;
  /** Part numbers 1 … 10,000; every part but the last at least 5 MiB. */
  uploadPart(upload: MultipartUpload, partNumber: number, body: BodySource, request?: Cancelable): Promise<PartResult>;
  copyPart(
    upload: MultipartUpload,
    partNumber: number,
    fromKey: string,
    range: { readonly offset: number; readonly length: number },
    request?: Cancelable & { readonly ifMatch?: string },
  ): Promise<PartResult>;
  completeMultipart(upload: MultipartUpload, parts: readonly PartResult[], request?: Cancelable): Promise<PutResult>;
  abortMultipart(upload: MultipartUpload, request?: Cancelable): Promise<void>;
  /**
   * One cheap request that shows that the bucket exists and answers to these credentials; rejects with the reason.
   * `prefix`: what is going to be used, for credentials that may list only below it.
   */
  check(request?: Cancelable & { readonly prefix?: string }): Promise<void>;
  close(): void;
}

/**
 * Why a request failed, in terms that callers can act on:
 * - `NotFound`: no such key. `NoSuchBucket`: the bucket itself.
 * - `PreconditionFailed`, `NotModified`, `InvalidRange`: the condition of the request.
 * - `AccessDenied`: signature fine, permission missing. `BadCredentials`: unknown key id or wrong secret, or none found.
 * - `ClockSkew`: this host's clock is off. `QuotaExceeded`: the provider's limit of space or objects.
 * - `Throttled` (503 SlowDown, 429), `Unavailable` (5xx), `Timeout`, `Transport` (reset, refused, torn body, DNS): worth a retry.
 * - `Away`: not asked, because the store has not answered anybody for a while.
 * - `Corrupt`: the bytes do not match their checksum.
 * - `Aborted`: the caller's signal.
 * - `NotSupported`: the store does not know this operation or condition.
 * - `InvalidRequest`: refused for another reason; a defect here or a limit of the store (key too long, …).
 */
export type StoreErrorKind =
  | 'NotFound'
  | 'NoSuchBucket'
  | 'PreconditionFailed'
  | 'NotModified'
  | 'InvalidRange'
  | 'AccessDenied'
  | 'BadCredentials'
  | 'ClockSkew'
  | 'QuotaExceeded'
  | 'Throttled'
  | 'Unavailable'
  | 'Timeout'
  | 'Transport'
  | 'Away'
  | 'Corrupt'
  | 'Aborted'
  | 'NotSupported'
  | 'InvalidRequest';

export class StoreError extends Error {
  readonly kind: StoreErrorKind;
  /** HTTP status, where there was an answer. */
  readonly status: number | undefined;
  /** The store's own code, e.g. `SlowDown`. */
  readonly code: string | undefined;
  /** How long the store asks to wait before the next attempt (Retry-After). */
  readonly retryAfterMs: number | undefined;

  constructor(
    kind: StoreErrorKind,
    message: string,
    details: {
      readonly status?: number | undefined;
      readonly code?: string | undefined;
      readonly retryAfterMs?: number | undefined;
      readonly cause?: unknown;
    } = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'StoreError';
    this.kind = kind;
    this.status = details.status;
    this.code = details.code;
    this.retryAfterMs = details.retryAfterMs;
  }
}

export function isStoreError(error: unknown, ...kinds: StoreErrorKind[]): error is StoreError {
  return error instanceof StoreError && (kinds.length === 0 || kinds.includes(error.kind));
}
