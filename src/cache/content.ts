/** One content while it is in memory: which blocks are present, and which of them were seen to be sound. */
import type { Stats } from 'node:fs';
import { chmod } from 'node:fs/promises';
import type { StampClock } from '../base/clock.ts';
import type { ContentId } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';
import type { ContentRow } from '../index/contract.ts';
import { BlockWriter } from './block-writer.ts';
import { blockLength, checksum, diskBytes } from './blocks.ts';
import { BLOCK_BYTES, type FileSlice } from './contract.ts';
import { type CacheFile, type CacheFiles, errorCode } from './files.ts';
import { Presence } from './presence.ts';
import type { Space } from './space.ts';

export interface ContentEnvironment {
  readonly files: CacheFiles;
  readonly space: Space;
  readonly clock: StampClock;
  readonly log: Logger;
  readonly counters: { damagedBlocks: number; refusedBlocks: number };
  /** The row in the index is out of date. */
  readonly noteChanged: (content: Content) => void;
  /** Brings the row up to date at once. False when that must wait. */
  readonly record: (content: Content) => boolean;
}

export interface Verification {
  /** Present, and compared. */
  readonly blocks: number;
  readonly bytes: number;
  readonly damaged: number;
  readonly isFileGone: boolean;
}

export class Content {
  readonly id: ContentId;
  readonly sizeBytes: number;
  /** Handles, and work in the background. */
  references = 0;
  /** The version is gone: the bytes go with the last reference, and the index no longer hears of them. */
  isRemoved = false;
  usedAtMs: number;
  readonly #env: ContentEnvironment;
  readonly #presence: Presence;
  readonly #puts = new Map<number, Promise<boolean>>();
  readonly #writer: BlockWriter;
  readonly #checks = new Map<number, Promise<boolean>>();
  /** Counts the times that the file was found gone, so that two finders do not start over twice. */
  #epoch = 0;
  /** Adopted, and its checksums are still being computed. */
  #isUnsummed = false;
  #isDamageKnown = false;

  constructor(id: ContentId, sizeBytes: number, row: ContentRow | undefined, env: ContentEnvironment) {
    this.id = id;
    this.sizeBytes = sizeBytes;
    this.usedAtMs = env.clock.stampMs();
    this.#env = env;
    this.#writer = new BlockWriter(env.files);
    this.#presence = new Presence(sizeBytes, row?.checksums, env.clock.monotonicMs());
  }

  get blockCount(): number {
    return this.#presence.blockCount;
  }

  get isComplete(): boolean {
    return this.#presence.blocks === this.blockCount;
  }

  /** On disk, in whole pages. */
  get presentBytes(): number {
    return this.#presence.bytes;
  }

  /** What the index should know; undefined while that must wait. */
  get row(): ContentRow | undefined {
    if (this.#isUnsummed || this.isRemoved) return undefined;
    const { id, sizeBytes, usedAtMs } = this;
    return { id, sizeBytes, usedAtMs, checksums: this.#presence.checksums, presentBytes: this.presentBytes };
  }

  has(block: number): boolean {
    return this.#presence.has(block);
  }

  put(block: number, bytes: Uint8Array, isPageAligned: boolean): Promise<boolean> {
    if (this.has(block)) return Promise.resolve(true);
    const running = this.#puts.get(block);
    if (running !== undefined) return running;
    const put = this.#put(block, bytes, isPageAligned).finally(() => this.#puts.delete(block));
    this.#puts.set(block, put);
    return put;
  }

  async slice(offset: number, lengthBytes: number): Promise<FileSlice | undefined> {
    const length = Math.min(lengthBytes, this.sizeBytes - offset);
    if (offset < 0 || length <= 0 || !this.#presence.hasRange(offset, length)) return undefined;
    this.usedAtMs = this.#env.clock.stampMs();
    if (!this.#isUnsummed) this.#presence.doubt(this.#env.clock.monotonicMs());
    const file = await this.#lease(false);
    if (file === undefined) return undefined;
    if (!(await this.#isSound(file, offset, length))) {
      this.#env.files.release(file);
      return undefined;
    }
    return this.#sliceOf(file, offset, length);
  }

  async whole(mayBeUnchecked: boolean): Promise<FileSlice | undefined> {
    if (!this.#isUnsummed) this.#presence.doubt(this.#env.clock.monotonicMs());
    if (!this.isComplete || !(mayBeUnchecked || this.#presence.isTrustedWhole)) return undefined;
    // Who comes after a crash must know this file as the content's, or changes would go into another one.
    if (!this.#env.record(this)) return undefined;
    const file = await this.#lease(false);
    return file && this.#sliceOf(file, 0, this.sizeBytes);
  }

  async moveOut(path: string, fd: number): Promise<boolean> {
    if (!this.isComplete || !(await this.#env.files.moveOut(this.id, path, fd))) return false;
    this.#startOver();
    return true;
  }

  /**
   * Takes over a complete file that this process wrote: all blocks count. Checksums that are not given follow with `sum`. False when there
   * is no room. Rejects with the errors of rename(2).
   */
  async adopt(path: string, { dev, mode }: Stats, checksums: Uint32Array | undefined): Promise<boolean> {
    const { space, files } = this.#env;
    if (!this.#presence.isTracked) return false;
    const bytes = diskBytes(this.sizeBytes);
    if (!(await space.reserve(bytes, dev === (await files.device()) ? 0 : bytes))) return false;
    try {
      if ((mode & 0o777) !== 0o600) await chmod(path, 0o600);
      await files.place(this.id, path);
    } catch (error) {
      space.release(bytes);
      throw error;
    }
    this.#presence.addAll(checksums);
    if (checksums === undefined) this.#isUnsummed = true;
    else this.#env.noteChanged(this);
    return true;
  }

  /** Reads an adopted file for its checksums. */
  async sum(signal: AbortSignal): Promise<void> {
    const file = await this.#lease(false);
    if (file === undefined) return;
    const memory = Buffer.allocUnsafeSlow(Math.min(BLOCK_BYTES, this.sizeBytes));
    try {
      for (let block = 0; block < this.blockCount && this.has(block) && !signal.aborted; block += 1) {
        const bytes = await this.#readBlock(file, block, memory);
        if (bytes === undefined) this.#forget(block);
        else if (this.has(block)) this.#presence.add(block, checksum(bytes));
      }
    } finally {
      this.#env.files.release(file);
    }
    if (signal.aborted) return;
    this.#isUnsummed = false;
    this.#env.noteChanged(this);
  }

  discard(): void {
    this.#env.counters.damagedBlocks += this.#presence.blocks;
    this.#startOver();
  }

  /** Compares all blocks that are present, and forgets those that are damaged when told so. */
  async verify(isRepairing: boolean, signal: AbortSignal): Promise<Verification> {
    const found = { blocks: 0, bytes: 0, damaged: 0, isFileGone: false };
    const epoch = this.#epoch;
    // Just written by this process, and its checksums are not there yet.
    if (this.#isUnsummed || this.#presence.blocks === 0) return found;
    const file = await this.#env.files.acquire(this.id, 'existing');
    if (file === undefined) {
      if (epoch !== this.#epoch) return found;
      const damaged = this.#presence.blocks;
      if (isRepairing) this.#startOver();
      return { ...found, damaged, isFileGone: true };
    }
    try {
      for (let block = 0; block < this.blockCount && !signal.aborted; block += 1) {
        if (!this.has(block)) continue;
        found.blocks += 1;
        found.bytes += blockLength(this.sizeBytes, block);
        if (await this.#matches(file, block)) continue;
        // Somebody may have found it damaged and replaced it in the middle of the read.
        if (!this.has(block) || (await this.#matches(file, block))) continue;
        found.damaged += 1;
        if (isRepairing) this.#noteDamage(block);
      }
    } finally {
      this.#env.files.release(file);
    }
    return found;
  }

  async #put(block: number, bytes: Uint8Array, isPageAligned: boolean): Promise<boolean> {
    const { space, counters } = this.#env;
    const reservedBytes = diskBytes(bytes.length);
    const isTracked = this.#presence.isTracked && block < this.blockCount;
    if (!isTracked || !(await space.reserve(reservedBytes))) {
      counters.refusedBlocks += 1;
      return false;
    }
    try {
      if (await this.#write(block, bytes, isPageAligned)) return true;
      space.release(reservedBytes);
    } catch (error) {
      space.release(reservedBytes);
      space.noteTrouble(error);
    }
    counters.refusedBlocks += 1;
    return false;
  }

  async #write(block: number, bytes: Uint8Array, isPageAligned: boolean): Promise<boolean> {
    const file = await this.#lease(true);
    if (file === undefined) return false;
    try {
      await this.#writer.write({ file, block, bytes, isPageAligned });
      if (file.detached) return false;
      // Only now, after the bytes: a crash in between leaves an absent block, never a wrong one.
      this.#presence.add(block, checksum(bytes));
    } finally {
      this.#env.files.release(file);
    }
    this.#env.space.noteWritten();
    this.#env.noteChanged(this);
    return true;
  }

  /** The content's file. When it vanished, everything is forgotten, and only a writer gets a new one. */
  async #lease(forWriting: boolean): Promise<CacheFile | undefined> {
    const { files } = this.#env;
    while (this.#presence.blocks > 0) {
      const epoch = this.#epoch;
      const file = await files.acquire(this.id, 'existing');
      if (file !== undefined) return file;
      if (epoch === this.#epoch) this.#startOver();
    }
    return forWriting ? files.acquire(this.id, 'create') : undefined;
  }

  #sliceOf(file: CacheFile, offset: number, lengthBytes: number): FileSlice {
    let isHeld = true;
    const release = () => {
      if (isHeld) this.#env.files.release(file);
      isHeld = false;
    };
    return { kind: 'file', fd: file.handle.fd, offset, lengthBytes, release };
  }

  async #isSound(file: CacheFile, offset: number, length: number): Promise<boolean> {
    const last = Math.floor((offset + length - 1) / BLOCK_BYTES);
    for (let block = Math.floor(offset / BLOCK_BYTES); block <= last; block += 1) {
      if (!this.#presence.isTrusted(block) && !(await this.#check(file, block))) return false;
    }
    return this.#presence.hasRange(offset, length);
  }

  /** Not yet trusted: the machine may have crashed before the block reached the disk, or the disk lost it. */
  #check(file: CacheFile, block: number): Promise<boolean> {
    const running = this.#checks.get(block);
    if (running !== undefined) return running;
    const check = this.#compare(file, block).finally(() => this.#checks.delete(block));
    this.#checks.set(block, check);
    return check;
  }

  async #compare(file: CacheFile, block: number): Promise<boolean> {
    const isSound = await this.#matches(file, block);
    if (!this.has(block)) return false;
    if (isSound) this.#presence.trust(block);
    else this.#noteDamage(block);
    return isSound;
  }

  async #matches(file: CacheFile, block: number): Promise<boolean> {
    const bytes = await this.#readBlock(file, block);
    return bytes !== undefined && checksum(bytes) === this.#presence.checksums[block];
  }

  /** Said once for each content: a file that lost its bytes may have thousands of blocks. */
  #noteDamage(block: number): void {
    this.#env.counters.damagedBlocks += 1;
    if (!this.#isDamageKnown) {
      this.#env.log.warn({ content: this.id, block }, 'a cached file is damaged; the damaged blocks are fetched again');
    }
    this.#isDamageKnown = true;
    this.#forget(block);
  }

  /** Undefined when the file is too short, or the disk cannot read it. `memory`: where the block goes, for who reads many. */
  async #readBlock(file: CacheFile, block: number, memory?: Buffer): Promise<Uint8Array | undefined> {
    const length = blockLength(this.sizeBytes, block);
    const bytes = memory?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length);
    try {
      const { bytesRead } = await file.handle.read(bytes, 0, length, block * BLOCK_BYTES);
      return bytesRead === length ? bytes : undefined;
    } catch (error) {
      this.#env.log.warn({ content: this.id, block, code: errorCode(error) }, 'cannot read a cached block');
      return undefined;
    }
  }

  #forget(block: number): void {
    const beforeBytes = this.presentBytes;
    this.#presence.remove(block);
    this.#env.space.release(beforeBytes - this.presentBytes);
    this.#env.noteChanged(this);
  }

  #startOver(): void {
    const lostBytes = this.presentBytes;
    this.#epoch += 1;
    this.#presence.clear();
    this.#env.space.release(lostBytes);
    this.#env.log.debug({ content: this.id }, 'a cache file is gone, given away or worthless: no block is present');
    this.#env.noteChanged(this);
  }
}
