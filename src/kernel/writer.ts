import { OUT_HEADER_BYTES } from './protocol.ts';

/**
 * A cursor over memory that goes to the kernel. Writing beyond its end throws RangeError (DataView checks it).
 * Numbers may be any safe integer; negative ones are written in two's complement.
 */
export class WireWriter {
  readonly capacityBytes: number;
  readonly #view: DataView;
  readonly #bytes: Buffer;
  #position = 0;

  constructor(memory: ArrayBuffer | Buffer) {
    this.#bytes = memory instanceof ArrayBuffer ? Buffer.from(memory) : memory;
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.length);
    this.capacityBytes = this.#bytes.length;
  }

  get sizeBytes(): number {
    return this.#position;
  }

  get written(): Buffer {
    return this.#bytes.subarray(0, this.#position);
  }

  /** Starts a message; `finish` fills in the header. */
  begin(): void {
    this.#position = OUT_HEADER_BYTES;
  }

  /** Writes the header: `fuse_out_header`. `error` is 0, a negative errno, or the code of a notification. */
  finish(error: number, uniqueLow: number, uniqueHigh: number): number {
    this.#view.setUint32(0, this.#position, true);
    this.#view.setInt32(4, error, true);
    this.#view.setUint32(8, uniqueLow, true);
    this.#view.setUint32(12, uniqueHigh, true);
    return this.#position;
  }

  u16(value: number): void {
    this.#view.setUint16(this.#position, value, true);
    this.#position += 2;
  }

  u32(value: number): void {
    this.#view.setUint32(this.#position, value, true);
    this.#position += 4;
  }

  u64(value: number): void {
    this.#view.setUint32(this.#position, value, true);
    this.#view.setUint32(this.#position + 4, Math.floor(value / 0x1_0000_0000), true);
    this.#position += 8;
  }

  big64(value: bigint): void {
    this.#view.setBigUint64(this.#position, value, true);
    this.#position += 8;
  }

  zeros(count: number): void {
    if (count > this.capacityBytes - this.#position) throw new RangeError('message too large');
    this.#bytes.fill(0, this.#position, this.#position + count);
    this.#position += count;
  }

  bytes(value: Uint8Array): void {
    if (value.length > this.capacityBytes - this.#position) throw new RangeError('message too large');
    this.#bytes.set(value, this.#position);
    this.#position += value.length;
  }

  text(value: string): void {
    const sizeBytes = Buffer.byteLength(value);
    if (sizeBytes > this.capacityBytes - this.#position) throw new RangeError('message too large');
    this.#position += this.#bytes.write(value, this.#position);
  }
}
