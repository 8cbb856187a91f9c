import { createHash } from 'node:crypto';
import { faultPoint } from '../base/fault-points.ts';
import type { Logger } from '../base/log.ts';
import { Semaphore } from '../base/semaphore.ts';
import { checksumsOf } from '../cache/blocks.ts';
import {
  isStoreError,
  type MultipartUpload,
  type ObjectStore,
  type PartResult,
  type PutRequest,
  StoreError,
} from '../store/contract.ts';
import { multipartEtag } from '../store/etag.ts';
import type { Uploader, UploadJob, UploadResult } from './contract.ts';
import { looksLikeMd5 } from './etag.ts';
import { Bodies, type FileBody, groupSize } from './file-body.ts';
import { runMultipart } from './multipart.ts';
import { PartBodies } from './part-bodies.ts';
import { type Part, planPatch, planUpload } from './parts.ts';

const MIB = 1024 * 1024;

export interface UploaderOptions {
  readonly store: ObjectStore;
  readonly log: Logger;
  /** Size of uploaded parts; grows where 10,000 of them are not enough. 10 MiB when absent, as s3fs has it. */
  readonly partSizeBytes?: number;
  /** Files above this go in parts. 25 MiB when absent. */
  readonly multipartThresholdBytes?: number;
  /** Parts under way at once, over all uploads. 5 when absent. */
  readonly parallel?: number;
}

type Base = NonNullable<UploadJob['base']>;

export function createUploader(options: UploaderOptions): Uploader {
  return new StagedUploader(options);
}

class StagedUploader implements Uploader {
  readonly #store: ObjectStore;
  readonly #log: Logger;
  readonly #partSizeBytes: number;
  readonly #thresholdBytes: number;
  readonly #slots: Semaphore;
  readonly #bodies = new Bodies();
  /** False once the store refused to copy a part. */
  #canCopyParts = true;
  /** False once an object came back intact under an ETag that is not its MD5 (SSE-KMS). */
  #etagsAreMd5 = true;
  /** True once an ETag was the MD5 of what was sent. */
  #haveEtagsMatched = false;

  constructor(options: UploaderOptions) {
    this.#store = options.store;
    this.#log = options.log;
    this.#partSizeBytes = options.partSizeBytes ?? 10 * MIB;
    this.#thresholdBytes = options.multipartThresholdBytes ?? 25 * MIB;
    this.#slots = new Semaphore(options.parallel ?? 5);
  }

  async upload(job: UploadJob): Promise<UploadResult> {
    if (job.sizeBytes <= this.#thresholdBytes) return this.#putWhole(job);
    const { base } = job;
    if (base !== undefined && this.#canCopyParts) {
      const parts = planPatch(job.sizeBytes, base.sizeBytes, base.changed, this.#partSizeBytes);
      if (parts.some((part) => part.kind === 'copy')) {
        const result = await this.#tryPatch(job, base, parts);
        if (result !== undefined) return result;
      }
    }
    return this.#inParts(job, planUpload(job.sizeBytes, this.#partSizeBytes), undefined);
  }

  async matches(fd: number, sizeBytes: number, etag: string): Promise<boolean> {
    if (looksLikeMd5(etag)) return (await this.digest(fd, sizeBytes)) === etag.toLowerCase();
    const parts = planUpload(sizeBytes, this.#partSizeBytes);
    if (!etag.endsWith(`-${parts.length}`)) return false;
    const ranges = parts.map(({ offset, lengthBytes }) => ({ fd, offset, lengthBytes }));
    return multipartEtag(await this.#bodies.digests(ranges)) === etag.toLowerCase();
  }

  async digest(fd: number, sizeBytes: number): Promise<string> {
    const [digest] = await this.#bodies.digests([{ fd, offset: 0, lengthBytes: sizeBytes }]);
    return digest as string;
  }

  async #putWhole(job: UploadJob): Promise<UploadResult> {
    const { fd, sizeBytes } = job;
    const range = { fd, offset: 0, lengthBytes: sizeBytes };
    await job.prepare(0, sizeBytes);
    try {
      return await this.#bodies.use(range, job.signal, (body) => this.#put(job, body, putRequest(job)));
    } catch (error) {
      if (!isStoreError(error, 'Corrupt')) throw error;
      this.#log.warn({ key: job.key }, 'an upload arrived damaged; it is sent again');
      // Read and hashed anew, and no longer exclusive: the damaged object is ours.
      const { ifNoneMatch: _, ...request } = putRequest(job);
      const isOurs = error instanceof DamagedError;
      return this.#bodies.use(range, job.signal, (body) => this.#put(job, body, isOurs ? request : putRequest(job)));
    }
  }

  async #put(job: UploadJob, body: FileBody, request: PutRequest): Promise<UploadResult> {
    job.expecting(body.md5Hex);
    const result = await this.#store.put(job.key, body, request);
    faultPoint('upload.put');
    if (result.etag.toLowerCase() === body.md5Hex) this.#haveEtagsMatched = true;
    const isSuspect = this.#etagsAreMd5 && looksLikeMd5(result.etag) && result.etag.toLowerCase() !== body.md5Hex;
    if (isSuspect) await this.#readBack(job, result.etag, body.md5Hex);
    const checksums = body.bytes === undefined ? {} : { checksums: checksumsOf(body.bytes) };
    return { etag: result.etag, lastModifiedMs: result.lastModifiedMs, multipart: false, ...checksums };
  }

  /** An ETag that is not the MD5 means a damaged object, or a store whose ETags are something else: the object itself tells. */
  async #readBack(job: UploadJob, etag: string, md5Hex: string): Promise<void> {
    const cancelable = job.signal === undefined ? {} : { signal: job.signal };
    const { body } = await this.#store.get(job.key, { ifMatch: etag, ...cancelable });
    const hash = createHash('md5');
    for await (const chunk of body) hash.update(chunk);
    if (hash.digest('hex') !== md5Hex) throw new DamagedError();
    this.#etagsAreMd5 = false;
    this.#log.info('the ETags of this store are no MD5s');
  }

  /** Undefined: the parts could not be copied, upload everything. */
  async #tryPatch(job: UploadJob, base: Base, parts: readonly Part[]): Promise<UploadResult | undefined> {
    try {
      return await this.#inParts(job, parts, base);
    } catch (error) {
      if (!(error instanceof CopyError)) throw error;
      if (isStoreError(error.cause, 'NotSupported')) this.#canCopyParts = false;
      this.#log.info({ key: job.key, reason: error.cause.kind }, 'cannot copy unchanged parts; everything is uploaded');
      return undefined;
    }
  }

  async #inParts(job: UploadJob, parts: readonly Part[], base: Base | undefined): Promise<UploadResult> {
    const bodies = this.#bodiesOf(job, parts);
    const result = await runMultipart(this.#store, this.#log, {
      key: job.key,
      request: putRequest(job),
      parts,
      parallel: this.#slots.capacity,
      send: (upload, part, signal) =>
        part.kind === 'copy' && base !== undefined
          ? this.#slots.run(() => this.#copyPart(upload, part, base, signal), 1, signal)
          : this.#sendPart(job, upload, part, bodies, signal),
      beforeComplete: async (expectedEtag) => {
        faultPoint('upload.parts');
        if (expectedEtag !== undefined) job.expecting(expectedEtag);
        if (base !== undefined) await this.#checkBase(base);
        if (job.exclusive) await this.#checkAbsent(job.key);
      },
    }).finally(() => bodies.close());
    faultPoint('upload.completed');
    return { etag: result.etag, lastModifiedMs: result.lastModifiedMs, multipart: true };
  }

  #bodiesOf(job: UploadJob, parts: readonly Part[]): PartBodies {
    const uploaded = parts.filter(({ kind }) => kind === 'upload');
    const largestBytes = Math.max(0, ...uploaded.map(({ lengthBytes }) => lengthBytes));
    return new PartBodies(uploaded, groupSize(largestBytes), async (group, signal) => {
      await Promise.all(group.map(({ offset, lengthBytes }) => job.prepare(offset, lengthBytes)));
      const ranges = group.map(({ offset, lengthBytes }) => ({ fd: job.fd, offset, lengthBytes }));
      return this.#bodies.load(ranges, signal);
    });
  }

  /** The body first: who waits for memory must not keep others from sending, which is what frees it. */
  async #sendPart(
    job: UploadJob,
    upload: MultipartUpload,
    part: Part,
    bodies: PartBodies,
    signal: AbortSignal,
  ): Promise<PartResult> {
    const { body, release } = await bodies.take(part, signal);
    let isIdle = false;
    try {
      const result = await this.#slots.run(() => this.#sendBody(job, upload, part, body, signal), 1, signal);
      isIdle = true;
      return result;
    } finally {
      release(isIdle);
    }
  }

  async #sendBody(
    job: UploadJob,
    upload: MultipartUpload,
    part: Part,
    body: FileBody,
    signal: AbortSignal,
  ): Promise<PartResult> {
    const send = () => this.#store.uploadPart(upload, part.partNumber, body, { signal });
    const result = await send();
    if (!this.#isDamaged(result.etag, body)) return result;
    this.#log.warn({ key: job.key, part: part.partNumber }, 'a part of an upload arrived damaged; it is sent again');
    const again = await send();
    if (this.#isDamaged(again.etag, body)) throw new DamagedError();
    return again;
  }

  /** A part cannot be read back: its ETag tells something only where others were MD5s. */
  #isDamaged(etag: string, body: FileBody): boolean {
    const isMatch = etag.toLowerCase() === body.md5Hex;
    if (isMatch) this.#haveEtagsMatched = true;
    return !isMatch && this.#haveEtagsMatched && looksLikeMd5(etag);
  }

  async #copyPart(upload: MultipartUpload, part: Part, base: Base, signal: AbortSignal): Promise<PartResult> {
    const range = { offset: part.offset, length: part.lengthBytes };
    try {
      return await this.#store.copyPart(upload, part.partNumber, base.key, range, { ifMatch: base.etag, signal });
    } catch (error) {
      if (isStoreError(error, 'NotSupported', 'PreconditionFailed', 'NotFound')) throw new CopyError(error);
      throw error;
    }
  }

  /** Some stores (Ceph RGW) ignore the condition of a copied part: was it the right version all the time? */
  async #checkBase(base: Base): Promise<void> {
    const head = await this.#store.head(base.key).catch((error: unknown) => {
      if (isStoreError(error, 'NotFound')) throw new CopyError(error);
      throw error;
    });
    if (head.etag === base.etag) return;
    throw new CopyError(new StoreError('PreconditionFailed', 'the object was replaced while parts of it were copied'));
  }

  /** The condition of a multipart upload is ignored by some stores as well. */
  async #checkAbsent(key: string): Promise<void> {
    const head = await this.#store.head(key).catch((error: unknown) => {
      if (isStoreError(error, 'NotFound')) return undefined;
      throw error;
    });
    if (head !== undefined) throw new StoreError('PreconditionFailed', 'the object exists');
  }
}

function putRequest(job: UploadJob): PutRequest {
  return {
    attributes: job.attributes,
    ...(job.exclusive ? { ifNoneMatch: '*' as const } : {}),
    ...(job.signal === undefined ? {} : { signal: job.signal }),
  };
}

/** The object is in the bucket, and it is not what was sent. */
class DamagedError extends StoreError {
  constructor() {
    super('Corrupt', 'the object in the bucket is not what was uploaded');
  }
}

/** Copying on the server does not work for this object; never leaves this file. */
class CopyError extends Error {
  override readonly cause: StoreError;

  constructor(cause: StoreError) {
    super('cannot copy a part', { cause });
    this.cause = cause;
  }
}
