/** The other end of a connection, without a kernel: a socket that keeps message boundaries stands in for /dev/fuse. */
import { closeSync, read, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { socketPair } from '../../../src/kernel/binding.ts';
import { IN_HEADER_BYTES, OUT_HEADER_BYTES } from '../../../src/kernel/protocol.ts';

const readAsync = promisify(read);

export interface Message {
  /** 0, a negative errno, or the code of a notification (whose `unique` is 0). */
  readonly error: number;
  readonly unique: bigint;
  readonly body: Buffer;
}

export interface Sent {
  readonly opcode: number;
  readonly unique: bigint;
  readonly node?: bigint;
  readonly body?: Buffer;
  /** What the header claims as the length. */
  readonly claimedBytes?: number;
}

export function encodeRequest({ opcode, unique, node = 1n, body = Buffer.alloc(0), claimedBytes }: Sent): Buffer {
  const header = Buffer.alloc(IN_HEADER_BYTES);
  header.writeUInt32LE(claimedBytes ?? header.length + body.length, 0);
  header.writeUInt32LE(opcode, 4);
  header.writeBigUInt64LE(unique, 8);
  header.writeBigUInt64LE(node, 16);
  header.writeUInt32LE(1000, 24);
  header.writeUInt32LE(1001, 28);
  header.writeUInt32LE(4242, 32);
  return Buffer.concat([header, body]);
}

export class FakeKernel {
  /** For the session. */
  readonly fd: number;
  readonly #ours: number;

  constructor() {
    const pair = socketPair();
    if (typeof pair === 'number') throw new Error(`no socket pair: errno ${pair}`);
    [this.fd, this.#ours] = pair;
  }

  send(request: Sent): void {
    writeSync(this.#ours, encodeRequest(request));
  }

  sendBytes(bytes: Buffer): void {
    writeSync(this.#ours, bytes);
  }

  /** Waits for the next message of the session. */
  async receive(): Promise<Message> {
    const { bytesRead, buffer } = await readAsync(this.#ours, Buffer.alloc(300_000), 0, 300_000, null);
    if (bytesRead < OUT_HEADER_BYTES || buffer.readUInt32LE(0) !== bytesRead) throw new Error('malformed reply');
    return {
      error: buffer.readInt32LE(4),
      unique: buffer.readBigUInt64LE(8),
      body: Buffer.from(buffer.subarray(OUT_HEADER_BYTES, bytesRead)),
    };
  }

  ask(request: Sent): Promise<Message> {
    this.send(request);
    return this.receive();
  }

  /** As an unmount does, reading ends for the session. */
  disconnect(): void {
    closeSync(this.#ours);
  }
}

/** Little-endian fields: a number is 32 bits, a bigint 64, text ends with NUL. */
export function fields(...list: (number | bigint | string | Buffer)[]): Buffer {
  return Buffer.concat(
    list.map((field) => {
      if (typeof field === 'string') return Buffer.from(`${field}\0`);
      if (Buffer.isBuffer(field)) return field;
      const bytes = Buffer.alloc(typeof field === 'number' ? 4 : 8);
      if (typeof field === 'number') bytes.writeUInt32LE(field);
      else bytes.writeBigUInt64LE(BigInt.asUintN(64, field));
      return bytes;
    }),
  );
}
