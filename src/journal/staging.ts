import { fstatSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { assert } from '../base/assert.ts';
import type { Clock, Timespec } from '../base/clock.ts';
import { type Extent, Extents } from '../base/extents.ts';
import { faultPoint } from '../base/fault-points.ts';
import type { NodeId } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';
import type { Index, StagingRow } from '../index/contract.ts';
import { STAGING_BLOCK_BYTES, STAGING_EXTENTS_LIMIT, type Staging } from './contract.ts';
import type { Describer } from './description.ts';
import { RangeLock } from './range-lock.ts';

/** What all staging files of a journal share. */
export interface StagingContext {
  readonly index: Index;
  readonly log: Logger;
  readonly clock: Clock;
  /** Makes the names of files in the staging directory durable. */
  readonly syncDirectory: () => Promise<void>;
  readonly describer: Describer;
}

export interface StagingOrigin {
  readonly path: string;
  readonly sizeBytes: number;
  /** What is known of the bytes below the row's base. */
  readonly present: readonly Extent[];
  /** They are the old content's. */
  readonly isClean?: true;
  readonly leftAt: Timespec | undefined;
}

type Range = { offset: number; lengthBytes: number };

/** The coarsest tick of file times, CONFIG_HZ=100. Two changes within one tick can leave the same times. */
const FILE_TICK_MS = 10;

/** A look that came too soon after a change: another one within the same tick would look the same, so it equals nothing. */
const UNSETTLED = '';

/**
 * Two invariants make a crash of this process at any instant harmless. The file on disk is as long as the content (so the size
 * needs no row), and an extent below `baseSizeBytes` is in the index before its write is acknowledged, but not before its bytes
 * are in the file. A range that only the file knows is old content still; a range past the base needs no row.
 */
export class FileStaging implements Staging {
  readonly path: string;
  readonly leftAt: Timespec | undefined;
  readonly present = new Extents();
  readonly dirty = new Extents();
  readonly #context: StagingContext;
  readonly #file: FileHandle;
  readonly #lock = new RangeLock();
  #row: StagingRow;
  #sizeBytes: number;
  #version = 0;
  #holds = 0;
  #isClosed = false;
  #isNameDurable = false;
  /** Size and times of the file; undefined: nobody looked yet. */
  #lastLook: string | undefined;

  constructor(context: StagingContext, file: FileHandle, row: StagingRow, from: StagingOrigin) {
    this.#context = context;
    this.#file = file;
    this.#row = row;
    this.path = from.path;
    this.leftAt = from.leftAt;
    this.#sizeBytes = from.sizeBytes;
    for (const { start, end } of from.present) this.present.add(start, Math.min(end, row.baseSizeBytes));
    this.present.add(row.baseSizeBytes, from.sizeBytes);
    if (from.isClean) return;
    for (const { start, end } of this.present.list) this.dirty.add(start, end);
  }

  get node(): NodeId {
    return this.#row.node;
  }

  /** What the index knows of it. */
  get row(): StagingRow {
    return this.#row;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  get fd(): number {
    return this.#file.fd;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get baseSizeBytes(): number {
    return this.#row.baseSizeBytes;
  }

  get isExclusive(): boolean {
    return this.#row.isExclusive;
  }

  get expectedEtag(): string | undefined {
    return this.#row.expectedEtag;
  }

  get version(): number {
    return this.#version;
  }

  get isComplete(): boolean {
    return this.present.covers(0, this.#row.baseSizeBytes);
  }

  missing(offset: number, lengthBytes: number): Range[] {
    const [start, end] = this.#widen(offset, offset + lengthBytes);
    return this.#gaps(start, end);
  }

  missingForWrite(offset: number, lengthBytes: number): Range[] {
    const [start, end] = this.#widen(offset, offset + lengthBytes);
    return [...this.#gaps(start, offset), ...this.#gaps(offset + lengthBytes, end)];
  }

  fill(offset: number, bytes: Uint8Array): Promise<void> {
    const end = offset + bytes.byteLength;
    return this.#lock.run(offset, end, async () => {
      for (const gap of this.#gaps(offset, end)) {
        const from = gap.offset - offset;
        await writeFully(this.#file, bytes.subarray(from, from + gap.lengthBytes), gap.offset);
        this.#notePresent(gap.offset, gap.offset + gap.lengthBytes);
      }
    });
  }

  async writeBy(offset: number, lengthBytes: number, put: (fd: number) => Promise<void>): Promise<void> {
    if (lengthBytes === 0) return;
    const end = offset + lengthBytes;
    try {
      await this.#lock.run(offset, end, async () => {
        await put(this.#file.fd);
        faultPoint('stage.written');
        this.#noteChanged(offset, end);
      });
    } catch (error) {
      await this.#cutBack();
      throw error;
    }
  }

  write(offset: number, bytes: Uint8Array): Promise<void> {
    return this.writeBy(offset, bytes.byteLength, () => writeFully(this.#file, bytes, offset));
  }

  truncate(sizeBytes: number): Promise<void> {
    return this.#lock.run(0, Number.POSITIVE_INFINITY, async () => {
      if (sizeBytes === this.#sizeBytes) return;
      await this.#file.truncate(sizeBytes);
      if (sizeBytes > this.#sizeBytes) this.#noteChanged(this.#sizeBytes, sizeBytes);
      else this.#noteCut(sizeBytes);
    });
  }

  noteUnseenWrites(): Promise<boolean> {
    return this.#lock.run(0, Number.POSITIVE_INFINITY, () => {
      assert(this.isComplete, 'others write to complete staging files only');
      const isFirst = this.#lastLook === undefined;
      const { look, size, isSettled } = this.#look();
      if (look === this.#lastLook) return false;
      this.#lastLook = isSettled ? look : UNSETTLED;
      if (isFirst) return false;
      if (Number(size) < this.#sizeBytes) this.#noteCut(Number(size));
      this.#noteChanged(0, Number(size));
      return true;
    });
  }

  setTime({ sec, nsec }: Timespec): Promise<void> {
    return this.#lock.run(0, Number.POSITIVE_INFINITY, async () => {
      const time = sec + nsec / 1e9;
      await this.#file.utimes(time, time);
      const { look, size, isSettled } = this.#look();
      this.#lastLook = isSettled ? look : UNSETTLED;
      this.#noteChanged(0, Number(size));
    });
  }

  noteAllChanged(): void {
    this.#noteChanged(0, this.#sizeBytes);
  }

  async sync(): Promise<void> {
    this.#putRow({ durable: await this.#flushFile() });
    const { describer, index } = this.#context;
    await Promise.all([describer.describe(this, 'durable'), index.sync()]);
    if (!this.#isNameDurable) await this.#context.syncDirectory();
    this.#isNameDurable = true;
  }

  noteOwn(): void {
    if (this.isExclusive) this.#putRow({ isExclusive: false });
  }

  noteUploading(expectedEtag: string): void {
    this.#putRow({ expectedEtag });
  }

  noteUploaded(version: number): boolean {
    this.#context.describer.noteStale(this);
    if (version !== this.#version) {
      this.#putRow({ expectedEtag: undefined, isExclusive: false });
      return false;
    }
    this.dirty.clear();
    const { index } = this.#context;
    index.transaction(() => {
      this.#putRow({
        baseSizeBytes: this.#sizeBytes,
        error: undefined,
        expectedEtag: undefined,
        isExclusive: false,
      });
      index.pending.setExtents(this.node, this.present.list);
    });
    return true;
  }

  noteFailure(error: string): Promise<void> {
    this.#putRow({ error });
    return this.#context.describer.describe(this, 'settled');
  }

  /** To be called when its name or attributes changed, too. */
  noteStale(): void {
    this.#context.describer.noteStale(this);
  }

  hold(): () => void {
    this.#holds += 1;
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#holds -= 1;
      if (this.#holds > 0 || !this.#isClosed) return;
      this.#file.close().catch((error: unknown) => {
        this.#context.log.warn({ error, path: this.path }, 'closing a staging file failed');
      });
    };
  }

  /** At once, or with the last hold. */
  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#holds === 0) await this.#file.close();
  }

  /** Of a file that is open the kernel has this in memory: another thread would take ten times as long to ask. */
  #look(): { look: string; size: bigint; isSettled: boolean } {
    const { size, mtimeNs } = fstatSync(this.#file.fd, { bigint: true });
    // A write sets the time to now, which shows unless it is that already.
    const isSettled = Math.abs(this.#context.clock.nowMs() - Number(mtimeNs / 1_000_000n)) > FILE_TICK_MS;
    return { look: `${size} ${mtimeNs}`, size, isSettled };
  }

  /** Byte for byte as long as there are few extents; after that in blocks, so that each one closes gaps. */
  #widen(start: number, end: number): [number, number] {
    if (this.present.list.length < STAGING_EXTENTS_LIMIT) return [start, end];
    return [
      Math.floor(start / STAGING_BLOCK_BYTES) * STAGING_BLOCK_BYTES,
      Math.ceil(end / STAGING_BLOCK_BYTES) * STAGING_BLOCK_BYTES,
    ];
  }

  #gaps(start: number, end: number): Range[] {
    const gaps = this.present.missing(start, Math.min(end, this.#row.baseSizeBytes));
    return gaps.map((gap) => ({ offset: gap.start, lengthBytes: gap.end - gap.start }));
  }

  /** Bytes are in the file: `[start, end)`, and zeros from the old end to `start` where that is further. */
  #noteChanged(start: number, end: number): void {
    const from = Math.min(start, this.#sizeBytes);
    this.#notePresent(from, end);
    this.dirty.add(from, end);
    this.#sizeBytes = Math.max(this.#sizeBytes, end);
    this.#version += 1;
    this.#context.describer.noteStale(this);
  }

  #notePresent(start: number, end: number): void {
    const gaps = this.present.missing(start, end);
    if (gaps.length === 0) return;
    this.present.add(start, end);
    try {
      if (start < this.baseSizeBytes) this.#putExtentAround(start, end);
    } catch (error) {
      for (const gap of gaps) this.present.remove(gap.start, gap.end);
      throw error;
    }
  }

  #putExtentAround(start: number, end: number): void {
    const merged = this.present.list.find((extent) => extent.start <= start && extent.end >= end);
    assert(merged !== undefined, 'an extent that was added is there');
    if (this.#isClosed) return;
    const extent = { start: merged.start, end: Math.min(merged.end, this.baseSizeBytes) };
    this.#context.index.pending.putExtent(this.node, extent);
  }

  /** Not after `close`: the row was deleted then. */
  #putRow(change: Partial<StagingRow>): void {
    this.#row = { ...this.#row, ...change };
    if (!this.#isClosed) this.#context.index.pending.putStaging(this.#row);
  }

  /** What was cut off never comes back: growing again shows zeros, not old content. */
  #noteCut(sizeBytes: number): void {
    this.present.remove(sizeBytes, Number.POSITIVE_INFINITY);
    this.dirty.remove(sizeBytes, Number.POSITIVE_INFINITY);
    this.#sizeBytes = sizeBytes;
    this.#version += 1;
    this.#context.describer.noteStale(this);
    if (sizeBytes >= this.#row.baseSizeBytes) return;
    this.#putRow({ baseSizeBytes: sizeBytes });
  }

  /** A write that failed half-way may have made the file longer than the content is. */
  #cutBack(): Promise<void> {
    return this.#lock.run(0, Number.POSITIVE_INFINITY, async () => {
      const { size } = await this.#file.stat();
      if (size > this.#sizeBytes) await this.#file.truncate(this.#sizeBytes);
    });
  }

  /** What was in the file before the flush is safe after it, unless the file was cut meanwhile. */
  async #flushFile(): Promise<NonNullable<StagingRow['durable']>> {
    for (;;) {
      const { baseSizeBytes } = this.#row;
      const present = this.present.list.filter((extent) => extent.start < baseSizeBytes);
      await this.#file.datasync();
      if (baseSizeBytes === this.#row.baseSizeBytes) return { baseSizeBytes, present };
    }
  }
}

async function writeFully(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < bytes.byteLength) {
    const { bytesWritten } = await file.write(bytes, done, bytes.byteLength - done, position + done);
    done += bytesWritten;
  }
}
