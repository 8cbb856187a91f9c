import { crc32 } from 'node:zlib';
import { BLOCK_BYTES } from './contract.ts';

/** File systems give space in pages of this size; the limit counts what the disk loses, not what the object has. */
const DISK_PAGE_BYTES = 4096;

export function blockCount(sizeBytes: number): number {
  return Math.ceil(sizeBytes / BLOCK_BYTES);
}

/** Length of one block: BLOCK_BYTES, the last one may be shorter. */
export function blockLength(sizeBytes: number, block: number): number {
  return Math.min(BLOCK_BYTES, sizeBytes - block * BLOCK_BYTES);
}

export function diskBytes(lengthBytes: number): number {
  return Math.ceil(lengthBytes / DISK_PAGE_BYTES) * DISK_PAGE_BYTES;
}

/** CRC-32, never 0: that stands for an absent block. */
export function checksum(bytes: Uint8Array): number {
  return crc32(bytes) || 1;
}

/** Of all blocks of a content. */
export function checksumsOf(bytes: Uint8Array): Uint32Array {
  return Uint32Array.from({ length: blockCount(bytes.length) }, (_, block) =>
    checksum(bytes.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES)),
  );
}
