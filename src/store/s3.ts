/** The object store over S3, by the AWS SDK. Every request is sent once: retry, limits and tracing are decorators. */
import type { Readable } from 'node:stream';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3';
import {
  type BodySource,
  type Cancelable,
  type CopyRequest,
  type DeleteFailure,
  type GetRequest,
  type GetResult,
  isStoreError,
  type ListPage,
  type ListRequest,
  type MultipartUpload,
  type ObjectHead,
  type ObjectStore,
  type PartResult,
  type PutRequest,
  type PutResult,
  StoreError,
} from './contract.ts';
import { type ByteRange, placeBody, rangeHeader, readBody, Upload } from './s3-body.ts';
import { endpointUrl, type S3ConnectionOptions } from './s3-client.ts';
import { type Exchange, S3Connection } from './s3-connection.ts';
import { kindOf } from './s3-errors.ts';
import { type S3WriteOptions, type SharedFields, sharedFields } from './s3-fields.ts';
import { fromAttributes, toEtag, toHead, toMs } from './s3-headers.ts';
import { type ListContext, ObjectListing } from './s3-list.ts';

export interface S3Options extends S3ConnectionOptions {
  readonly bucket: string;
  readonly writes?: S3WriteOptions;
  /** The account that asks pays for requests and traffic. */
  readonly requesterPays?: boolean;
}

/** The most keys that one batch delete takes. */
const MAX_DELETE_KEYS = 1000;

export class S3Store implements ObjectStore {
  readonly description: string;
  readonly #connection: S3Connection;
  readonly #fields: SharedFields;
  readonly #listing: ListContext;
  #lacksBatchDelete = false;

  constructor(options: S3Options) {
    this.description = `${endpointUrl(options.endpoint)?.origin ?? 's3:/'}/${options.bucket}`;
    this.#connection = new S3Connection(options);
    this.#fields = sharedFields(options.bucket, options.writes ?? {}, options.requesterPays ?? false);
    this.#listing = { connection: this.#connection, fields: this.#fields.any, lacksV2: false };
  }

  head(key: string, request: Cancelable & { readonly ifNoneMatch?: string } = {}): Promise<ObjectHead> {
    const input = { ...this.#fields.read, Key: key, ...ifNoneMatch(request.ifNoneMatch) };
    return this.#connection.send(`HEAD ${key}`, request.signal, async (client, http) => {
      const answer = await client.send(new HeadObjectCommand(input), http);
      return toHead(answer, answer.ContentLength);
    });
  }

  get(key: string, request: GetRequest = {}): Promise<GetResult> {
    const { range, ifMatch, signal } = request;
    const name = `GET ${key}`;
    const input = {
      ...this.#fields.read,
      Key: key,
      ...(range === undefined ? {} : { Range: rangeHeader(range) }),
      ...(ifMatch === undefined ? {} : { IfMatch: `"${ifMatch}"` }),
      ...ifNoneMatch(request.ifNoneMatch),
    };
    return this.#connection.send(name, signal, async (client, http) => {
      const answer = await client.send(new GetObjectCommand(input), http);
      const stream = answer.Body as Readable;
      try {
        const placement = placeBody(answer, range);
        const head = toHead(answer, placement.sizeBytes);
        const { offset, lengthBytes } = placement;
        return { head, offset, lengthBytes, body: readBody(stream, placement, name, signal) };
      } catch (error) {
        stream.destroy();
        throw error;
      }
    });
  }

  async put(key: string, body: BodySource, request: PutRequest): Promise<PutResult> {
    const input = {
      ...this.#fields.write,
      Key: key,
      ...fromAttributes(request.attributes),
      ...(request.ifNoneMatch === undefined ? {} : { IfNoneMatch: request.ifNoneMatch }),
    };
    const answer = await this.#upload(
      `PUT ${key}`,
      body,
      request.signal,
      (upload) => (client, http) => client.send(new PutObjectCommand({ ...input, ...upload.fields }), http),
    );
    return this.#written(key, answer.ETag, request.signal);
  }

  copy(fromKey: string, toKey: string, request: CopyRequest = {}): Promise<PutResult> {
    const { attributes, ifMatch, signal } = request;
    const input = {
      ...this.#fields.write,
      ...this.#copySource(fromKey, ifMatch),
      Key: toKey,
      MetadataDirective: attributes === undefined ? 'COPY' : 'REPLACE',
      ...(attributes === undefined ? {} : fromAttributes(attributes)),
    } as const;
    return this.#connection.send(`COPY ${fromKey} to ${toKey}`, signal, async (client, http) => {
      const { CopyObjectResult: copied } = await client.send(new CopyObjectCommand(input), http);
      const lastModifiedMs = toMs(copied?.LastModified);
      return { etag: confirmed(copied?.ETag), ...(lastModifiedMs === undefined ? {} : { lastModifiedMs }) };
    });
  }

  async delete(key: string, request: Cancelable = {}): Promise<void> {
    const input = { ...this.#fields.any, Key: key };
    await this.#connection
      .send(`DELETE ${key}`, request.signal, (client, http) => client.send(new DeleteObjectCommand(input), http))
      .catch(unlessNotFound);
  }

  async deleteMany(keys: readonly string[], request: Cancelable = {}): Promise<readonly DeleteFailure[]> {
    if (keys.length > MAX_DELETE_KEYS) throw new StoreError('InvalidRequest', `${keys.length} keys in a batch delete`);
    const batch = this.#lacksBatchDelete ? [] : keys.filter(isXmlText);
    const singles = this.#lacksBatchDelete ? keys : keys.filter((key) => !isXmlText(key));
    try {
      const failures = batch.length === 0 ? [] : await this.#deleteBatch(batch, request.signal);
      return [...failures, ...(await this.#deleteEach(singles, request))];
    } catch (error) {
      if (this.#lacksBatchDelete || !isStoreError(error, 'NotSupported')) throw error;
      this.#lacksBatchDelete = true;
      return this.#deleteEach(keys, request);
    }
  }

  list(request: ListRequest): AsyncIterable<ListPage> {
    return new ObjectListing(this.#listing, request);
  }

  createMultipart(key: string, request: PutRequest): Promise<MultipartUpload> {
    const input = { ...this.#fields.write, Key: key, ...fromAttributes(request.attributes) };
    return this.#connection.send(`CREATE UPLOAD ${key}`, request.signal, async (client, http) => {
      const { UploadId: uploadId } = await client.send(new CreateMultipartUploadCommand(input), http);
      if (!uploadId) throw new StoreError('Transport', 'the answer has no upload id');
      return { key, uploadId };
    });
  }

  async uploadPart(
    upload: MultipartUpload,
    partNumber: number,
    body: BodySource,
    request: Cancelable = {},
  ): Promise<PartResult> {
    const input = { ...this.#fields.read, ...partOf(upload, partNumber) };
    const name = `PUT PART ${partNumber} of ${upload.key}`;
    const answer = await this.#upload(
      name,
      body,
      request.signal,
      (part) => (client, http) => client.send(new UploadPartCommand({ ...input, ...part.fields }), http),
    );
    return { partNumber, etag: confirmed(answer.ETag) };
  }

  copyPart(
    upload: MultipartUpload,
    partNumber: number,
    fromKey: string,
    range: ByteRange,
    request: Cancelable & { readonly ifMatch?: string } = {},
  ): Promise<PartResult> {
    const input = {
      ...this.#fields.read,
      ...this.#copySource(fromKey, request.ifMatch),
      ...partOf(upload, partNumber),
      CopySourceRange: rangeHeader(range),
    };
    const name = `COPY PART ${partNumber} of ${upload.key}`;
    return this.#connection.send(name, request.signal, async (client, http) => {
      const answer = await client.send(new UploadPartCopyCommand(input), http);
      return { partNumber, etag: confirmed(answer.CopyPartResult?.ETag) };
    });
  }

  async completeMultipart(
    upload: MultipartUpload,
    parts: readonly PartResult[],
    request: Cancelable = {},
  ): Promise<PutResult> {
    const Parts = parts.map(({ partNumber, etag }) => ({ PartNumber: partNumber, ETag: `"${etag}"` }));
    const input = {
      ...this.#fields.read,
      Key: upload.key,
      UploadId: upload.uploadId,
      MultipartUpload: { Parts },
    };
    const answer = await this.#connection.send(`COMPLETE UPLOAD ${upload.key}`, request.signal, (client, http) =>
      client.send(new CompleteMultipartUploadCommand(input), http),
    );
    return this.#written(upload.key, answer.ETag, request.signal);
  }

  async abortMultipart(upload: MultipartUpload, request: Cancelable = {}): Promise<void> {
    const input = { ...this.#fields.any, Key: upload.key, UploadId: upload.uploadId };
    await this.#connection
      .send(`ABORT UPLOAD ${upload.key}`, request.signal, (client, http) =>
        client.send(new AbortMultipartUploadCommand(input), http),
      )
      .catch(unlessNotFound);
  }

  async check(request: Cancelable & { readonly prefix?: string } = {}): Promise<void> {
    const input = { ...this.#fields.any, Prefix: request.prefix ?? '', MaxKeys: 1, EncodingType: 'url' } as const;
    await this.#connection.send(`LIST ${this.#fields.any.Bucket}`, request.signal, (client, http) =>
      client.send(new ListObjectsV2Command(input), http),
    );
  }

  close(): void {
    this.#connection.close();
  }

  /** A failure to read the body is thrown as it is: it is not the store's. */
  async #upload<T>(
    name: string,
    source: BodySource,
    signal: AbortSignal | undefined,
    exchange: (upload: Upload) => Exchange<T>,
  ): Promise<T> {
    let upload: Upload | undefined;
    try {
      return await this.#connection.send(name, signal, (client, http) => {
        upload = new Upload(source);
        return exchange(upload)(client, http);
      });
    } catch (error) {
      throw upload?.sourceError ?? error;
    } finally {
      upload?.close();
    }
  }

  /** Ceph RGW completes uploads without telling the ETag. */
  async #written(key: string, rawEtag: string | undefined, signal: AbortSignal | undefined): Promise<PutResult> {
    const etag = toEtag(rawEtag);
    if (etag !== undefined) return { etag };
    const head = await this.head(key, signal === undefined ? {} : { signal });
    return { etag: head.etag, lastModifiedMs: head.lastModifiedMs };
  }

  async #deleteBatch(keys: readonly string[], signal: AbortSignal | undefined): Promise<DeleteFailure[]> {
    const Delete = { Objects: keys.map((Key) => ({ Key })), Quiet: true };
    const answer = await this.#connection.send(`DELETE of ${keys.length} keys`, signal, (client, http) =>
      client.send(new DeleteObjectsCommand({ ...this.#fields.any, Delete }), http),
    );
    return (answer.Errors ?? []).flatMap(({ Key: key = '', Code: code, Message: message }) => {
      const kind = kindOf(code, undefined);
      if (kind === 'NotFound') return [];
      return [{ key, error: new StoreError(kind, `DELETE ${key}: ${code}: ${message ?? ''}`, { code }) }];
    });
  }

  async #deleteEach(keys: readonly string[], request: Cancelable): Promise<DeleteFailure[]> {
    const failures: DeleteFailure[] = [];
    for (const key of keys) {
      try {
        await this.delete(key, request);
      } catch (error) {
        if (!isStoreError(error)) throw error;
        failures.push({ key, error });
      }
    }
    return failures;
  }

  #copySource(key: string, ifMatch: string | undefined) {
    return {
      ...this.#fields.source,
      CopySource: `${this.#fields.any.Bucket}/${encodeURIComponent(key).replaceAll('%2F', '/')}`,
      ...(ifMatch === undefined ? {} : { CopySourceIfMatch: `"${ifMatch}"` }),
    };
  }
}

function partOf(upload: MultipartUpload, partNumber: number) {
  return { Key: upload.key, UploadId: upload.uploadId, PartNumber: partNumber };
}

function ifNoneMatch(etag: string | undefined): { readonly IfNoneMatch?: string } {
  return etag === undefined ? {} : { IfNoneMatch: `"${etag}"` };
}

/** Stores send the status of a copy before they make it: only an ETag shows that it is there. */
function confirmed(rawEtag: string | undefined): string {
  const etag = toEtag(rawEtag);
  if (etag === undefined) throw new StoreError('Unavailable', 'the answer has no ETag');
  return etag;
}

function unlessNotFound(error: unknown): void {
  if (!isStoreError(error, 'NotFound')) throw error;
}

/** XML 1.0 cannot name keys with other control characters; those are deleted one by one. */
function isXmlText(key: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return key.isWellFormed() && !/[\x00-\x08\x0b-\x1f\ufffe\uffff]/.test(key);
}
