/** Listing page by page: V2, V1 where V2 is missing, each page asked for again after a failure. */
import {
  ListObjectsCommand,
  type ListObjectsCommandOutput,
  ListObjectsV2Command,
  type ListObjectsV2CommandOutput,
} from '@aws-sdk/client-s3';
import {
  isStoreError,
  type ListedObject,
  type ListPage,
  type ListRequest,
  PAGE_ENTRIES,
  StoreError,
} from './contract.ts';
import type { S3Connection } from './s3-connection.ts';
import type { SharedFields } from './s3-fields.ts';
import { isSize, toEtag, toMs } from './s3-headers.ts';

/** What the listings of one bucket share. */
export interface ListContext {
  readonly connection: S3Connection;
  readonly fields: SharedFields['any'];
  /** Learnt from the first refusal. */
  lacksV2: boolean;
}

type ListAnswer = ListObjectsV2CommandOutput | ListObjectsCommandOutput;

export class ObjectListing implements AsyncIterableIterator<ListPage> {
  readonly #context: ListContext;
  readonly #request: ListRequest;
  /** Continuation token (V2) or marker (V1) of the next page. */
  #position: string | undefined;
  #useV1: boolean;
  #isDone = false;

  constructor(context: ListContext, request: ListRequest) {
    this.#context = context;
    this.#request = request;
    this.#useV1 = context.lacksV2;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<ListPage, undefined>> {
    if (this.#isDone) return { done: true, value: undefined };
    const answer = await this.#fetch();
    const page = toPage(answer);
    const entries = page.objects.length + page.prefixes.length;
    const next = this.#nextPosition(answer);
    if (next !== undefined && next === this.#position) {
      throw new StoreError('Unavailable', `LIST ${this.#request.prefix}: the store repeats the same page`);
    }
    this.#position = next;
    // A store may answer an empty page and more to come, so that only a page with entries satisfies a limit.
    this.#isDone = next === undefined || (this.#request.limit !== undefined && entries > 0);
    return { done: false, value: page };
  }

  async return(): Promise<IteratorResult<ListPage, undefined>> {
    this.#isDone = true;
    return { done: true, value: undefined };
  }

  async #fetch(): Promise<ListAnswer> {
    const { connection, fields } = this.#context;
    const { prefix, delimiter, after, limit, signal } = this.#request;
    const at = this.#position;
    const input = {
      ...fields,
      Prefix: prefix,
      EncodingType: 'url',
      MaxKeys: Math.min(limit ?? PAGE_ENTRIES, PAGE_ENTRIES),
      ...(delimiter === undefined ? {} : { Delimiter: delimiter }),
    } as const;
    if (!this.#useV1) {
      try {
        const start = at === undefined ? { StartAfter: after } : { ContinuationToken: at };
        const command = () => new ListObjectsV2Command({ ...input, ...start });
        return await connection.send(`LIST ${prefix}`, signal, (client, http) => client.send(command(), http));
      } catch (error) {
        if (at !== undefined || !isStoreError(error, 'NotSupported')) throw error;
        this.#useV1 = true;
        this.#context.lacksV2 = true;
      }
    }
    const command = () => new ListObjectsCommand({ ...input, Marker: at ?? after });
    return await connection.send(`LIST ${prefix}`, signal, (client, http) => client.send(command(), http));
  }

  #nextPosition(answer: ListAnswer): string | undefined {
    if (answer.IsTruncated !== true) return undefined;
    if ('NextContinuationToken' in answer && answer.NextContinuationToken) return answer.NextContinuationToken;
    // A store that ignored `list-type=2` answered as V1 does. Without a delimiter V1 leaves NextMarker out: then it is the
    // last key.
    this.#useV1 = true;
    const decode = decoderOf(answer);
    const marker = 'NextMarker' in answer && answer.NextMarker ? answer.NextMarker : answer.Contents?.at(-1)?.Key;
    if (marker === undefined) {
      throw new StoreError('Unavailable', `LIST ${this.#request.prefix}: more to come, but no token to ask for it`);
    }
    return decode(marker);
  }
}

function toPage(answer: ListAnswer): ListPage {
  const decode = decoderOf(answer);
  const objects: ListedObject[] = [];
  for (const raw of answer.Contents ?? []) {
    const etag = toEtag(raw.ETag);
    // An entry that no request could name, or no version, is none.
    if (!raw.Key || etag === undefined || !isSize(raw.Size)) continue;
    objects.push({
      key: decode(raw.Key),
      etag,
      sizeBytes: raw.Size,
      lastModifiedMs: toMs(raw.LastModified) ?? 0,
    });
  }
  const prefixes = (answer.CommonPrefixes ?? []).flatMap(({ Prefix }) => (Prefix ? [decode(Prefix)] : []));
  return { objects, prefixes };
}

/** A store that does not know `encoding-type` leaves it out of the answer, and its keys are verbatim. */
function decoderOf(answer: { readonly EncodingType?: string | undefined }): (text: string) => string {
  if (answer.EncodingType !== 'url') return (text) => text;
  return (text) => {
    if (!/[%+]/.test(text)) return text;
    try {
      return decodeURIComponent(text.replaceAll('+', ' '));
    } catch {
      return text; // Not UTF-8: no key that this client could ask for, but not a reason to fail the page.
    }
  };
}
