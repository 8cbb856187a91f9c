/** Bytes of objects, both ways. */
import { Readable } from 'node:stream';
import { onceEnded } from './body.ts';
import { BulkBody } from './bulk-http.ts';
import { type BodySource, type ObjectBody, StoreError } from './contract.ts';
import { toStoreError } from './s3-errors.ts';
import { isSize } from './s3-headers.ts';

export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/** Where the body of an answer lies within the object. */
export interface Placement {
  readonly offset: number;
  readonly lengthBytes: number;
  /** Of the whole object. */
  readonly sizeBytes: number;
  /** Bytes that come before `offset`, from a store that does not know ranges and sends everything. */
  readonly skipBytes: number;
}

export function rangeHeader({ offset, length }: ByteRange): string {
  return `bytes=${offset}-${offset + length - 1}`;
}

/** Throws a `Transport` error when the answer does not say what it holds, or holds something else than was asked for. */
export function placeBody(
  answer: { readonly ContentLength?: number | undefined; readonly ContentRange?: string | undefined },
  range: ByteRange | undefined,
): Placement {
  const length = answer.ContentLength;
  if (!isSize(length)) throw new StoreError('Transport', 'the answer has no valid Content-Length');
  if (answer.ContentRange === undefined) return placeWhole(length, range);
  const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(answer.ContentRange);
  const [offset, last, sizeBytes] = (match?.slice(1) ?? []).map(Number) as [number?, number?, number?];
  const isSound =
    isSize(offset) &&
    isSize(last) &&
    isSize(sizeBytes) &&
    offset === (range?.offset ?? 0) &&
    last - offset + 1 === length &&
    last < sizeBytes &&
    length === Math.min(range?.length ?? sizeBytes, sizeBytes - offset);
  if (!isSound)
    throw new StoreError('Transport', `the answer holds another range: ${answer.ContentRange.slice(0, 80)}`);
  return { offset, lengthBytes: length, sizeBytes, skipBytes: 0 };
}

function placeWhole(sizeBytes: number, range: ByteRange | undefined): Placement {
  if (range === undefined) return { offset: 0, lengthBytes: sizeBytes, sizeBytes, skipBytes: 0 };
  if (range.offset >= sizeBytes) throw new StoreError('InvalidRange', `the object has ${sizeBytes} bytes`);
  const lengthBytes = Math.min(range.length, sizeBytes - range.offset);
  return { offset: range.offset, lengthBytes, sizeBytes, skipBytes: range.offset };
}

/** Exactly the bytes of the placement; less is a `Transport` error. Giving up early closes the connection. */
export function readBody(
  stream: Readable,
  placement: Placement,
  name: string,
  signal: AbortSignal | undefined,
): ObjectBody {
  const chunks = exactBytes(stream, placement, name, signal);
  const body = stream instanceof BulkBody && placement.skipBytes === 0 ? filling(chunks, stream, name, signal) : chunks;
  return onceEnded(body, () => stream.destroy());
}

function filling(
  chunks: AsyncIterable<Uint8Array>,
  stream: BulkBody,
  name: string,
  signal: AbortSignal | undefined,
): ObjectBody {
  return {
    [Symbol.asyncIterator]: () => chunks[Symbol.asyncIterator](),
    fill: (target) =>
      stream.fill(target).catch((error: unknown) => {
        throw toStoreError(error, name, signal);
      }),
  };
}

async function* exactBytes(
  stream: Readable,
  placement: Placement,
  name: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  let skip = placement.skipBytes;
  let missing = placement.lengthBytes;
  try {
    for await (const received of stream as AsyncIterable<Uint8Array>) {
      const chunk = received.subarray(skip, skip + missing);
      skip -= Math.min(skip, received.length);
      missing -= chunk.length;
      if (chunk.length > 0) yield chunk;
      if (missing === 0 && placement.skipBytes > 0) return;
    }
  } catch (error) {
    throw toStoreError(error, name, signal);
  }
  if (missing > 0) throw new StoreError('Transport', `${name}: the body ends ${missing} bytes early`);
}

/** One attempt's body, as input fields of the SDK. */
export class Upload {
  readonly fields: {
    readonly Body: Uint8Array | Readable;
    readonly ContentLength: number;
    readonly ContentMD5?: string;
  };
  #sourceError: unknown;

  constructor(source: BodySource) {
    const body = source.open();
    if (body instanceof Uint8Array && body.length !== source.sizeBytes) throw wrongSize(source, body.length);
    this.fields = {
      Body: body instanceof Uint8Array ? body : Readable.from(this.#counted(source, body), { objectMode: false }),
      ContentLength: source.sizeBytes,
      ...(source.md5 === undefined ? {} : { ContentMD5: source.md5 }),
    };
  }

  /** Why the source could not be read, which is no failure of the store; undefined when it could. */
  get sourceError(): unknown {
    return this.#sourceError;
  }

  /** After the attempt: a stream that was not read to its end is closed. */
  close(): void {
    if (this.fields.Body instanceof Readable) this.fields.Body.destroy();
  }

  /** A body of another length than announced would hang the connection or mix up its requests. */
  async *#counted(source: BodySource, chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    let isAtNetwork = false;
    try {
      let sent = 0;
      for await (const chunk of chunks) {
        sent += chunk.length;
        if (sent > source.sizeBytes) throw wrongSize(source, sent);
        isAtNetwork = true;
        yield chunk;
        isAtNetwork = false;
      }
      if (sent !== source.sizeBytes) throw wrongSize(source, sent);
    } catch (error) {
      // What is thrown in at the `yield` is the failure of the request.
      if (!isAtNetwork) this.#sourceError = error;
      throw error;
    }
  }
}

function wrongSize(source: BodySource, actual: number): Error {
  return new Error(`the body has ${actual} bytes or more where ${source.sizeBytes} were announced`);
}
