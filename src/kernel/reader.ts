import { isUtf8 } from 'node:buffer';
import { ERRNO, MAX_NAME_BYTES } from './protocol.ts';

/** A request that cannot be decoded; `errno` is the answer to it. */
export class WireError extends Error {
  readonly errno: number;

  constructor(message: string, errno: number = ERRNO.EINVAL) {
    super(message);
    this.name = 'WireError';
    this.errno = errno;
  }
}

const SLASH = 0x2f;

/** A cursor over one request. Whatever the bytes are, it reads inside the request or throws `WireError`. */
export class RequestReader {
  readonly #view: DataView;
  readonly #bytes: Buffer;
  #position = 0;
  #end = 0;

  constructor(buffer: ArrayBuffer) {
    this.#view = new DataView(buffer);
    this.#bytes = Buffer.from(buffer);
  }

  /** Sets the cursor to the start of the request in `[start, end)`. */
  reset(start: number, end: number): this {
    this.#position = start;
    this.#end = end;
    return this;
  }

  get remainingBytes(): number {
    return this.#end - this.#position;
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  /** Values from 2^53 on are refused with `tooLarge`: no node id, offset or length of ours is that large. */
  u64(tooLarge: number = ERRNO.EINVAL): number {
    const at = this.#take(8);
    const high = this.#view.getUint32(at + 4, true);
    if (high >= 0x20_0000) throw new WireError('number too large', tooLarge);
    return high * 0x1_0000_0000 + this.#view.getUint32(at, true);
  }

  /** Seconds since the epoch. The kernel's range is smaller than 2^53 on both sides. */
  seconds(): number {
    const at = this.#take(8);
    const sec = this.#view.getInt32(at + 4, true) * 0x1_0000_0000 + this.#view.getUint32(at, true);
    if (!Number.isSafeInteger(sec)) throw new WireError('time out of range');
    return sec;
  }

  skip(sizeBytes: number): void {
    this.#take(sizeBytes);
  }

  /** A copy. */
  bytes(sizeBytes: number): Buffer {
    const at = this.#take(sizeBytes);
    return Buffer.from(this.#bytes.subarray(at, at + sizeBytes));
  }

  /** A NUL-terminated name of a directory entry. */
  name(): string {
    const name = this.text(MAX_NAME_BYTES);
    if (name === '' || name === '.' || name === '..' || name.charCodeAt(0) === SLASH || name.includes('/')) {
      throw new WireError('not a name');
    }
    return name;
  }

  /** NUL-terminated UTF-8. @throws WireError ENAMETOOLONG above `maxBytes`, EILSEQ when it is not UTF-8. */
  text(maxBytes: number): string {
    const start = this.#position;
    const nul = this.#bytes.indexOf(0, start);
    if (nul < 0 || nul >= this.#end) throw new WireError('text without an end');
    if (nul - start > maxBytes) throw new WireError('text too long', ERRNO.ENAMETOOLONG);
    this.#position = nul + 1;
    for (let at = start; at < nul; at += 1) {
      if ((this.#bytes[at] as number) >= 0x80) return this.#utf8(start, nul);
    }
    return this.#bytes.toString('latin1', start, nul);
  }

  #utf8(start: number, end: number): string {
    if (!isUtf8(this.#bytes.subarray(start, end))) throw new WireError('not UTF-8', ERRNO.EILSEQ);
    return this.#bytes.toString('utf8', start, end);
  }

  #take(sizeBytes: number): number {
    const at = this.#position;
    if (sizeBytes > this.#end - at) throw new WireError('request too short');
    this.#position = at + sizeBytes;
    return at;
  }
}
