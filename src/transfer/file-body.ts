/** Bodies of requests from ranges of a file that somebody else holds open. */
import { createHash } from 'node:crypto';
import { read } from 'node:fs';
import { promisify } from 'node:util';
import { Semaphore } from '../base/semaphore.ts';
import type { BodySource } from '../store/contract.ts';
import { Digester, type FileRange, fileTooShort, TOGETHER_MAX } from './digester.ts';
import { md5Base64 } from './etag.ts';
import { PartMemory } from './part-memory.ts';

const readAt = promisify(read);

const MIB = 1024 * 1024;
/** Bodies of whole objects in memory, over all uploads. */
const WHOLES_LIMIT_BYTES = 64 * MIB;
/** Bodies of parts, likewise, apart so that small files need not wait for large ones; and memory kept between them. */
const PARTS_LIMIT_BYTES = 100 * MIB;
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
  /** All of it, while it is small enough to be in memory. */
  readonly bytes?: Uint8Array;
}

export interface LentBody {
  readonly body: FileBody;
  /** Once. `isIdle`: nobody reads it any more. After a failure a connection that is about to be closed may still send from it. */
  release(isIdle: boolean): void;
}

interface ReadBody {
  readonly body: FileBody;
  /** Where its bytes are, when they can be overwritten later. */
  readonly memory: SharedArrayBuffer | undefined;
}

/** So many parts of this size are loaded together, that as many are sent meanwhile. */
export function groupSize(partBytes: number): number {
  return Math.max(1, Math.min(TOGETHER_MAX, Math.floor(PARTS_LIMIT_BYTES / 2 / heldBytes(partBytes))));
}

function heldBytes(sizeBytes: number): number {
  return sizeBytes <= BUFFERED_BYTES ? sizeBytes : STREAM_BYTES;
}

/** Makes bodies, and bounds the memory that all of them take. */
export class Bodies {
  readonly #wholes = new Semaphore(WHOLES_LIMIT_BYTES);
  readonly #parts = new Semaphore(PARTS_LIMIT_BYTES);
  readonly #memory = new PartMemory(PARTS_LIMIT_BYTES);
  readonly #digester = new Digester(() => this.#memory.clear());

  /** Hex MD5s of ranges of any size, of which there are any number. */
  async digests(ranges: readonly FileRange[]): Promise<readonly string[]> {
    const [only] = ranges;
    if (ranges.length === 1 && only && only.lengthBytes <= SMALL_BYTES) return [(await smallBody(only)).md5Hex];
    const digests: string[] = [];
    for (let i = 0; i < ranges.length; i += TOGETHER_MAX) {
      digests.push(...(await this.#digester.digest(ranges.slice(i, i + TOGETHER_MAX))));
    }
    return digests;
  }

  /** The body of a whole object. Waits for memory, and lends it: nobody may read it once `send` has resolved. */
  use<T>(range: FileRange, signal: AbortSignal | undefined, send: (body: FileBody) => Promise<T>): Promise<T> {
    const lend = async () => {
      const [read] = (await this.#read([range])) as [ReadBody];
      const result = await send(read.body);
      if (read.memory !== undefined) this.#memory.give(read.memory);
      return result;
    };
    return this.#wholes.run(lend, heldBytes(range.lengthBytes), signal);
  }

  /** Bodies of parts, `groupSize` of them at most. Waits for memory, for all of them at once. */
  async load(ranges: readonly FileRange[], signal: AbortSignal): Promise<readonly LentBody[]> {
    const held = ranges.map(({ lengthBytes }) => heldBytes(lengthBytes));
    const totalBytes = held.reduce((sum, bytes) => sum + bytes, 0);
    await this.#parts.acquire(totalBytes, signal);
    try {
      const bodies = await this.#read(ranges);
      return bodies.map(({ body, memory }, i) => {
        const release = (isIdle: boolean) => {
          if (isIdle && memory !== undefined) this.#memory.give(memory);
          this.#parts.release(held[i]);
          // A reader may want as much soon.
          if (this.#parts.used === 0) this.#memory.clear();
        };
        return { body, release };
      });
    } catch (error) {
      this.#parts.release(totalBytes);
      throw error;
    }
  }

  async #read(ranges: readonly FileRange[]): Promise<readonly ReadBody[]> {
    const [only] = ranges;
    if (ranges.length === 1 && only && only.lengthBytes <= SMALL_BYTES) {
      return [{ body: await smallBody(only), memory: undefined }];
    }
    const wanted = ranges.map((range) => {
      const isBuffered = range.lengthBytes <= BUFFERED_BYTES;
      return isBuffered ? { ...range, memory: this.#memory.take(range.lengthBytes) } : range;
    });
    const digests = await this.#digester.digest(wanted);
    return wanted.map((range, i) => {
      const memory = 'memory' in range ? range.memory : undefined;
      const bytes = memory && new Uint8Array(memory, 0, range.lengthBytes);
      // Without memory it is read twice: the second time, and at each attempt, it comes from the page cache, and memory stays small.
      return { body: bodyOf(range, digests[i] as string, () => bytes ?? readPieces(range)), memory };
    });
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
  return { ...bodyOf(range, hash.digest('hex'), () => bytes), bytes };
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
