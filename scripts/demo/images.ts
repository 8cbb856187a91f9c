/** Pictures to serve: PNG files that any viewer opens. */
import { randomBytes, randomInt } from 'node:crypto';
import { crc32, deflateSync } from 'node:zlib';

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
const BYTES_PER_PIXEL = 3;
const MIN_SIZE_BYTES = 10_000;
const MAX_SIZE_BYTES = 200_000;

/** By name; some 10 to 200 KB each. */
export function makeImages(count: number): Map<string, Uint8Array> {
  const name = (index: number) => `image-${String(index + 1).padStart(4, '0')}.png`;
  return new Map(
    Array.from({ length: count }, (_, index) => [name(index), makeImage(randomInt(MIN_SIZE_BYTES, MAX_SIZE_BYTES))]),
  );
}

/** Coloured grain, about as large as asked for: noise does not compress. */
export function makeImage(sizeBytes: number): Uint8Array {
  const side = Math.round(Math.sqrt(sizeBytes / BYTES_PER_PIXEL));
  const lineBytes = 1 + side * BYTES_PER_PIXEL;
  const pixels = randomBytes(side * lineBytes);
  // The first byte of each line names its filter: none.
  for (let line = 0; line < side; line += 1) pixels[line * lineBytes] = 0;
  const header = Buffer.alloc(13);
  header.writeUInt32BE(side, 0);
  header.writeUInt32BE(side, 4);
  // 8 bits per channel, RGB; compression, filter and interlace as ever.
  header.set([8, 2, 0, 0, 0], 8);
  const data = deflateSync(pixels, { level: 1 });
  return Buffer.concat([SIGNATURE, chunk('IHDR', header), chunk('IDAT', data), chunk('IEND', Buffer.alloc(0))]);
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  const checksum = Buffer.alloc(4);
  checksum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, checksum]);
}
