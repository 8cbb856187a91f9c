/** Which blocks of one content are present, with their checksums, and which of them were seen to be sound. Pure. */
import { blockCount, blockLength, diskBytes } from './blocks.ts';
import { BLOCK_BYTES } from './contract.ts';

/** Larger objects are not cached: the checksums alone would take megabytes. */
const MAX_BLOCKS = 2 ** 20;
/** Disks rot, and the kernel gives pages back: after so long a block is compared again when somebody reads it. */
const TRUST_MS = 3_600_000;
/** Of a block whose checksum follows. */
const UNSUMMED = 1;

export class Presence {
  readonly blockCount: number;
  /** False: too large, nothing is ever present. */
  readonly isTracked: boolean;
  /** 0: absent. Invariant: not 0 only for blocks that were written completely. */
  readonly checksums: Uint32Array;
  readonly #sizeBytes: number;
  /** 1: compared with its checksum, or written, by this process. */
  readonly #trusted: Uint8Array;
  #trustedSinceMs: number;
  #blocks = 0;
  #bytes = 0;

  constructor(sizeBytes: number, checksums: Uint32Array | undefined, nowMs: number) {
    this.#sizeBytes = sizeBytes;
    this.blockCount = blockCount(sizeBytes);
    this.isTracked = this.blockCount <= MAX_BLOCKS;
    this.checksums = checksums ?? new Uint32Array(this.isTracked ? this.blockCount : 0);
    this.#trusted = new Uint8Array(this.checksums.length);
    this.#trustedSinceMs = nowMs;
    for (const [block, sum] of this.checksums.entries()) if (sum !== 0) this.#count(block, 1);
  }

  get blocks(): number {
    return this.#blocks;
  }

  /** On disk, in whole pages. */
  get bytes(): number {
    return this.#bytes;
  }

  has(block: number): boolean {
    return (this.checksums[block] ?? 0) !== 0;
  }

  hasRange(offset: number, lengthBytes: number): boolean {
    const last = Math.floor((offset + lengthBytes - 1) / BLOCK_BYTES);
    for (let block = Math.floor(offset / BLOCK_BYTES); block <= last; block += 1) if (!this.has(block)) return false;
    return true;
  }

  /** A block that this process wrote, and nobody else meanwhile. */
  add(block: number, checksum: number): void {
    if (!this.has(block)) this.#count(block, 1);
    this.checksums[block] = checksum;
    this.#trusted[block] = 1;
  }

  /** All blocks; checksums that are not given follow. */
  addAll(checksums: Uint32Array | undefined): void {
    for (let block = 0; block < this.blockCount; block += 1) this.add(block, checksums?.[block] ?? UNSUMMED);
  }

  remove(block: number): void {
    if (!this.has(block)) return;
    this.checksums[block] = 0;
    this.#trusted[block] = 0;
    this.#count(block, -1);
  }

  clear(): void {
    this.checksums.fill(0);
    this.#trusted.fill(0);
    this.#blocks = 0;
    this.#bytes = 0;
  }

  isTrusted(block: number): boolean {
    return this.#trusted[block] === 1;
  }

  get isTrustedWhole(): boolean {
    return this.#blocks === this.blockCount && !this.#trusted.includes(0);
  }

  trust(block: number): void {
    this.#trusted[block] = 1;
  }

  /** Ends the trust in all blocks when it is old. */
  doubt(nowMs: number): void {
    if (nowMs - this.#trustedSinceMs < TRUST_MS) return;
    this.#trusted.fill(0);
    this.#trustedSinceMs = nowMs;
  }

  #count(block: number, direction: 1 | -1): void {
    this.#blocks += direction;
    this.#bytes += direction * diskBytes(blockLength(this.#sizeBytes, block));
  }
}
