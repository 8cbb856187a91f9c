/** Bodies of requests from ranges of a file that somebody else holds open. */
import { createHash } from 'node:crypto';
import { read } from 'node:fs';
import { promisify } from 'node:util';
import { Semaphore } from '../base/semaphore.ts';
import type { BodySource } from '../store/contract.ts';
import { Digester, type FileRange, fileTooShort } from './digester.ts';
import { md5Base64 } from './etag.ts';
import { PartMemory } from './part-memory.ts';

const readAt = promisify(read);

const MIB = 1024 * 1024;
/** Bodies in memory, over all uploads; and memory kept between them. */
const MEMORY_LIMIT_BYTES = 64 * MIB;
/** Small enough that hashing a piece does not hold up the JavaScript thread (about 0.4 ms). */
const PIECE_BYTES = 256 * 1024;
/** Bodies up to this size are hashed in pieces on the JavaScript thread: sooner than another thread has started. */
const SMALL_BYTES = 8 * MIB;
/** Bodies up to this size are sent from memory, as the parts of nearly all files are. */
const BUFFERED_BYTES = 16 * MIB;
/** What a body that is streamed from its file holds in memory, about. */
const STREAM_BYTES = MIB;

export interface FileBody extends BodySource {
  readonly md5Hex: string;
}

/** Makes bodies, and bounds the memory that all of them take. */
export class Bodies {
  readonly #admission = new Semaphore(MEMORY_LIMIT_BYTES);
  readonly #memory = new PartMemory(MEMORY_LIMIT_BYTES);
  readonly #digester = new Digester(() => this.#memory.clear());

  /** Hex MD5 of a range of any size. */
  async digest(range: FileRange): Promise<string> {
    if (range.lengthBytes > SMALL_BYTES) return this.#digester.digest(range);
    return (await smallBody(range)).md5Hex;
  }

  /** Waits for memory, and lends a body: nobody may read it once `send` has resolved. */
  use<T>(range: FileRange, signal: AbortSignal | undefined, send: (body: FileBody) => Promise<T>): Promise<T> {
    const sizeBytes = range.lengthBytes;
    const heldBytes = sizeBytes <= BUFFERED_BYTES ? sizeBytes : STREAM_BYTES;
    return this.#admission.run(() => this.#lend(range, send), heldBytes, signal);
  }

  async #lend<T>(range: FileRange, send: (body: FileBody) => Promise<T>): Promise<T> {
    if (range.lengthBytes <= SMALL_BYTES) return send(await smallBody(range));
    if (range.lengthBytes > BUFFERED_BYTES) return send(await this.#streamedBody(range));
    const memory = this.#memory.take(range.lengthBytes);
    const md5Hex = await this.#digester.digest(range, memory);
    const bytes = new Uint8Array(memory, 0, range.lengthBytes);
    const result = await send(bodyOf(range, md5Hex, () => bytes));
    // Not after a failure: a connection that is about to be closed may still send from it.
    this.#memory.give(memory);
    return result;
  }

  /** Read twice, for the digest and for each attempt: the second time it comes from the page cache, and memory stays small. */
  async #streamedBody(range: FileRange): Promise<FileBody> {
    return bodyOf(range, await this.#digester.digest(range), () => readPieces(range));
  }
}

function bodyOf({ lengthBytes }: FileRange, md5Hex: string, open: BodySource['open']): FileBody {
  return { sizeBytes: lengthBytes, md5Hex, md5: md5Base64(md5Hex), open };
}

async function smallBody(range: FileRange): Promise<FileBody> {
  const bytes = Buffer.allocUnsafeSlow(range.lengthBytes);
  const hash = createHash('md5');
  for (let done = 0; done < bytes.length; ) {
    const wantedBytes = Math.min(PIECE_BYTES, bytes.length - done);
    const { bytesRead } = await readAt(range.fd, bytes, done, wantedBytes, range.offset + done);
    if (bytesRead === 0) throw fileTooShort();
    hash.update(bytes.subarray(done, done + bytesRead));
    done += bytesRead;
  }
  return bodyOf(range, hash.digest('hex'), () => bytes);
}

/** Every piece has a buffer of its own. */
async function* readPieces({ fd, offset, lengthBytes }: FileRange): AsyncGenerator<Uint8Array> {
  const end = offset + lengthBytes;
  for (let position = offset; position < end; ) {
    const buffer = Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, end - position));
    const { bytesRead } = await readAt(fd, buffer, 0, buffer.length, position);
    if (bytesRead === 0) throw fileTooShort();
    position += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}
