/** The reference: what the contract means, in memory. For unit tests. */
import { createHash } from 'node:crypto';
import { type Clock, systemClock } from '../base/clock.ts';
import {
  type BodySource,
  type Cancelable,
  type CopyRequest,
  type DeleteFailure,
  type GetRequest,
  type GetResult,
  type ListedObject,
  type ListPage,
  type ListRequest,
  type MultipartUpload,
  type ObjectAttributes,
  type ObjectHead,
  type ObjectStore,
  PAGE_ENTRIES,
  type PartResult,
  type PutRequest,
  type PutResult,
  StoreError,
} from './contract.ts';
import { multipartEtag } from './etag.ts';

interface StoredObject {
  readonly head: ObjectHead;
  readonly bytes: Buffer;
}

interface PendingUpload {
  readonly key: string;
  readonly attributes: ObjectAttributes;
  readonly parts: Map<number, { readonly etag: string; readonly bytes: Buffer }>;
}

const CHUNK_BYTES = 64 * 1024;
const MIN_PART_BYTES = 5 * 2 ** 20;
const MAX_PARTS = 10_000;
const MAX_KEY_BYTES = 1024;

export class MemoryStore implements ObjectStore {
  readonly description = 'memory';
  readonly #clock: Clock;
  readonly #objects = new Map<string, StoredObject>();
  readonly #uploads = new Map<string, PendingUpload>();
  /** Keys in order of UTF-8 bytes; undefined after a key came or went. */
  #sortedKeys: string[] | undefined;
  #lastUploadId = 0;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  /** Uploads begun and neither completed nor aborted. */
  get pendingUploads(): number {
    return this.#uploads.size;
  }

  async head(key: string, request: Cancelable & { readonly ifNoneMatch?: string } = {}): Promise<ObjectHead> {
    const { head } = await this.#find(key, request.signal);
    if (head.etag === request.ifNoneMatch) throw new StoreError('NotModified', `HEAD ${key}`, { status: 304 });
    return head;
  }

  async get(key: string, request: GetRequest = {}): Promise<GetResult> {
    const { range, ifMatch, ifNoneMatch, signal } = request;
    const { head, bytes } = await this.#find(key, signal);
    if (ifMatch !== undefined && head.etag !== ifMatch) throw conditionFailed(key);
    if (head.etag === ifNoneMatch) throw new StoreError('NotModified', `GET ${key}`, { status: 304 });
    const offset = range?.offset ?? 0;
    if (range !== undefined && offset >= bytes.length) throw invalidRange(key);
    const body = bytes.subarray(offset, range === undefined ? undefined : offset + range.length);
    return { head, offset, lengthBytes: body.length, body: chunksOf(body, key, signal) };
  }

  async put(key: string, body: BodySource, request: PutRequest): Promise<PutResult> {
    const bytes = await collect(body, key, request.signal);
    if (request.ifNoneMatch !== undefined && this.#objects.has(key)) throw conditionFailed(key);
    return { etag: this.#store(key, bytes, md5(bytes), request.attributes).etag };
  }

  async copy(fromKey: string, toKey: string, request: CopyRequest = {}): Promise<PutResult> {
    const source = await this.#find(fromKey, request.signal);
    if (request.ifMatch !== undefined && source.head.etag !== request.ifMatch) throw conditionFailed(fromKey);
    if (fromKey === toKey && request.attributes === undefined) {
      throw new StoreError('InvalidRequest', `COPY ${fromKey}: to itself, without a change`, { status: 400 });
    }
    // A copy is one part: the ETag of a multipart source becomes a plain MD5.
    return this.#store(toKey, source.bytes, md5(source.bytes), request.attributes ?? source.head);
  }

  async delete(key: string, request: Cancelable = {}): Promise<void> {
    await turn(key, request.signal);
    if (this.#objects.delete(key)) this.#sortedKeys = undefined;
  }

  async deleteMany(keys: readonly string[], request: Cancelable = {}): Promise<readonly DeleteFailure[]> {
    if (keys.length > PAGE_ENTRIES) throw new StoreError('InvalidRequest', `${keys.length} keys in a batch delete`);
    for (const key of keys) await this.delete(key, request);
    return [];
  }

  async *list(request: ListRequest): AsyncGenerator<ListPage> {
    const pageEntries = Math.min(request.limit ?? PAGE_ENTRIES, PAGE_ENTRIES);
    let { after } = request;
    for (;;) {
      await turn(`LIST ${request.prefix}`, request.signal);
      const page = this.#page(request, after, pageEntries);
      yield { objects: page.objects, prefixes: page.prefixes };
      if (page.next === undefined || request.limit !== undefined) return;
      after = page.next;
    }
  }

  async createMultipart(key: string, request: PutRequest): Promise<MultipartUpload> {
    await turn(key, request.signal);
    checkKey(key);
    this.#lastUploadId += 1;
    const uploadId = String(this.#lastUploadId);
    this.#uploads.set(uploadId, { key, attributes: request.attributes, parts: new Map() });
    return { key, uploadId };
  }

  async uploadPart(
    upload: MultipartUpload,
    partNumber: number,
    body: BodySource,
    request: Cancelable = {},
  ): Promise<PartResult> {
    const bytes = await collect(body, upload.key, request.signal);
    return this.#addPart(upload, partNumber, bytes);
  }

  async copyPart(
    upload: MultipartUpload,
    partNumber: number,
    fromKey: string,
    range: { readonly offset: number; readonly length: number },
    request: Cancelable & { readonly ifMatch?: string } = {},
  ): Promise<PartResult> {
    const { head, bytes } = await this.#find(fromKey, request.signal);
    if (request.ifMatch !== undefined && head.etag !== request.ifMatch) throw conditionFailed(fromKey);
    if (range.offset + range.length > bytes.length) throw invalidRange(fromKey);
    return this.#addPart(upload, partNumber, bytes.subarray(range.offset, range.offset + range.length));
  }

  async completeMultipart(
    upload: MultipartUpload,
    parts: readonly PartResult[],
    request: Cancelable = {},
  ): Promise<PutResult> {
    await turn(upload.key, request.signal);
    const pending = this.#pending(upload);
    const bytes = parts.map(({ partNumber, etag }, index) => {
      const part = pending.parts.get(partNumber);
      const isOrdered = index === 0 || partNumber > (parts[index - 1]?.partNumber ?? 0);
      const isLargeEnough = index === parts.length - 1 || (part?.bytes.length ?? 0) >= MIN_PART_BYTES;
      if (part === undefined || part.etag !== etag || !isOrdered || !isLargeEnough) {
        throw new StoreError('InvalidRequest', `COMPLETE ${upload.key}: part ${partNumber}`, { status: 400 });
      }
      return part.bytes;
    });
    const etag = multipartEtag(parts.map((part) => part.etag));
    if (etag === undefined || parts.length === 0)
      throw new StoreError('InvalidRequest', `COMPLETE ${upload.key}: no parts`);
    this.#uploads.delete(upload.uploadId);
    return this.#store(upload.key, Buffer.concat(bytes), etag, pending.attributes);
  }

  async abortMultipart(upload: MultipartUpload, request: Cancelable = {}): Promise<void> {
    await turn(upload.key, request.signal);
    this.#uploads.delete(upload.uploadId);
  }

  async check(request: Cancelable = {}): Promise<void> {
    await turn('check', request.signal);
  }

  close(): void {}

  async #find(key: string, signal: AbortSignal | undefined): Promise<StoredObject> {
    await turn(key, signal);
    const found = this.#objects.get(key);
    if (found === undefined)
      throw new StoreError('NotFound', `${key}: no such key`, { status: 404, code: 'NoSuchKey' });
    return found;
  }

  #store(key: string, bytes: Buffer, etag: string, attributes: ObjectAttributes): ObjectHead {
    checkKey(key);
    const head = {
      ...headersOf(attributes),
      etag,
      sizeBytes: bytes.length,
      lastModifiedMs: Math.floor(this.#clock.nowMs() / 1000) * 1000,
    };
    if (!this.#objects.has(key)) this.#sortedKeys = undefined;
    this.#objects.set(key, { head, bytes });
    return head;
  }

  #addPart(upload: MultipartUpload, partNumber: number, bytes: Buffer): PartResult {
    if (!Number.isInteger(partNumber) || partNumber < 1 || partNumber > MAX_PARTS) {
      throw new StoreError('InvalidRequest', `${upload.key}: part number ${partNumber}`, { status: 400 });
    }
    const etag = md5(bytes);
    this.#pending(upload).parts.set(partNumber, { etag, bytes });
    return { partNumber, etag };
  }

  #pending(upload: MultipartUpload): PendingUpload {
    const pending = this.#uploads.get(upload.uploadId);
    if (pending?.key === upload.key) return pending;
    throw new StoreError('NotFound', `${upload.key}: no such upload`, { status: 404, code: 'NoSuchUpload' });
  }

  /** Entries after `after` (a key or a prefix that the last page ended with). */
  #page({ prefix, delimiter }: ListRequest, after: string | undefined, pageEntries: number) {
    const objects: ListedObject[] = [];
    const prefixes: string[] = [];
    let last: string | undefined;
    for (const key of this.#keys()) {
      if (!key.startsWith(prefix)) continue;
      const end = delimiter === undefined ? -1 : key.indexOf(delimiter, prefix.length);
      const entry = end < 0 ? key : key.slice(0, end + 1);
      if (entry === last || (after !== undefined && compareBytes(entry, after) <= 0)) continue;
      if (objects.length + prefixes.length === pageEntries) return { objects, prefixes, next: last };
      last = entry;
      const { etag, sizeBytes, lastModifiedMs } = (this.#objects.get(key) as StoredObject).head;
      if (end < 0) objects.push({ key, etag, sizeBytes, lastModifiedMs });
      else prefixes.push(entry);
    }
    return { objects, prefixes, next: undefined };
  }

  #keys(): readonly string[] {
    this.#sortedKeys ??= [...this.#objects.keys()].sort(compareBytes);
    return this.#sortedKeys;
  }
}

/** Order of UTF-8 bytes, which is order of code points and differs from UTF-16's only beyond the surrogates. */
function compareBytes(a: string, b: string): number {
  if (!/[\ud800-\udfff]/.test(a) && !/[\ud800-\udfff]/.test(b)) return a < b ? -1 : a > b ? 1 : 0;
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** Every operation waits at least once, as a real store does, and sees the signal then. */
async function turn(name: string, signal: AbortSignal | undefined): Promise<void> {
  await Promise.resolve();
  if (signal?.aborted) throw new StoreError('Aborted', `${name}: given up`);
}

async function collect(body: BodySource, key: string, signal: AbortSignal | undefined): Promise<Buffer> {
  await turn(key, signal);
  const content = body.open();
  const chunks: Uint8Array[] = [];
  if (content instanceof Uint8Array) chunks.push(content);
  else for await (const chunk of content) chunks.push(chunk);
  await turn(key, signal);
  const bytes = Buffer.concat(chunks);
  if (bytes.length !== body.sizeBytes)
    throw new Error(`the body has ${bytes.length} bytes, announced: ${body.sizeBytes}`);
  if (body.md5 !== undefined && Buffer.from(body.md5, 'base64').toString('hex') !== md5(bytes)) {
    throw new StoreError('Corrupt', `PUT ${key}: BadDigest`, { status: 400, code: 'BadDigest' });
  }
  return bytes;
}

async function* chunksOf(bytes: Buffer, key: string, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    await turn(key, signal);
    yield bytes.subarray(at, at + CHUNK_BYTES);
  }
}

function headersOf(attributes: ObjectAttributes): ObjectAttributes {
  const { contentType, cacheControl, contentDisposition, contentEncoding, contentLanguage, expires } = attributes;
  const headers = { contentType, cacheControl, contentDisposition, contentEncoding, contentLanguage, expires };
  return {
    ...Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined)),
    metadata: Object.fromEntries(
      Object.entries(attributes.metadata).map(([name, value]) => [name.toLowerCase(), value]),
    ),
  };
}

function checkKey(key: string): void {
  const sizeBytes = Buffer.byteLength(key);
  if (sizeBytes >= 1 && sizeBytes <= MAX_KEY_BYTES) return;
  throw new StoreError('InvalidRequest', `a key of ${sizeBytes} bytes`, { status: 400, code: 'KeyTooLongError' });
}

function conditionFailed(key: string): StoreError {
  return new StoreError('PreconditionFailed', `${key}: another version`, { status: 412, code: 'PreconditionFailed' });
}

function invalidRange(key: string): StoreError {
  return new StoreError('InvalidRange', `${key}: starts or ends past the end`, { status: 416, code: 'InvalidRange' });
}

function md5(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex');
}
