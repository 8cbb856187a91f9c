/**
 * Writes the blocks of one content. The kernel lets one call at a time write to a file, and others would hold threads that all files share: so one
 * call is under way, and what has come meanwhile goes with the next.
 *
 * Blocks of large objects go past the page cache (O_DIRECT) where memory and disk allow it: who reads them at this moment gets them from memory,
 * and a gigabyte of fresh pages costs more than to receive it. A disk that is slower than the network gets them through the page cache, which
 * has more room than we have.
 */
import type { FileHandle } from 'node:fs/promises';
import { BLOCK_BYTES } from './contract.ts';
import { type CacheFile, type CacheFiles, errorCode } from './files.ts';

/** 4 MiB with one call. */
const RUN_MAX = 16;
/** More than so many blocks wait: the disk is slow. */
const BACKLOG_MAX = 7 * RUN_MAX;
/** Offsets and lengths that any disk takes. */
const SECTOR_BYTES = 4096;

export interface BlockWrite {
  readonly file: CacheFile;
  readonly block: number;
  readonly bytes: Uint8Array;
  readonly isPageAligned: boolean;
}

interface Waiting extends BlockWrite {
  readonly done: PromiseWithResolvers<void>;
}

export class BlockWriter {
  readonly #files: CacheFiles;
  readonly #queue: Waiting[] = [];
  #isBusy = false;

  constructor(files: CacheFiles) {
    this.#files = files;
  }

  /** The bytes may be used again when it has settled. Rejects with the errors of pwritev(2). */
  write(write: BlockWrite): Promise<void> {
    const done = Promise.withResolvers<void>();
    this.#queue.push({ ...write, done });
    if (!this.#isBusy) void this.#drain();
    return done.promise;
  }

  async #drain(): Promise<void> {
    this.#isBusy = true;
    for (let first = this.#queue.shift(); first !== undefined; first = this.#queue.shift()) {
      const run = [first, ...this.#takeFollowers(first)];
      try {
        await this.#writeRun(first, run);
        for (const { done } of run) done.resolve();
      } catch (error) {
        for (const { done } of run) done.reject(error);
      }
    }
    this.#isBusy = false;
  }

  /** Those like it that follow it in the file. */
  #takeFollowers(first: Waiting): Waiting[] {
    const run: Waiting[] = [];
    for (let block = first.block + 1; run.length < RUN_MAX - 1; block += 1) {
      const next = this.#queue.findIndex(
        (waiting) =>
          waiting.block === block && waiting.file === first.file && canBeDirect(waiting) === canBeDirect(first),
      );
      if (next < 0) break;
      run.push(...this.#queue.splice(next, 1));
    }
    return run;
  }

  async #writeRun(first: Waiting, run: readonly Waiting[]): Promise<void> {
    const { file, block } = first;
    const isDirect = canBeDirect(first) && this.#queue.length <= BACKLOG_MAX;
    const direct = isDirect ? await this.#files.direct(file) : undefined;
    try {
      await writeAll(direct ?? file.handle, block, run);
    } catch (error) {
      if (direct === undefined || errorCode(error) !== 'EINVAL') throw error;
      this.#files.refuseDirect();
      await writeAll(file.handle, block, run);
    }
  }
}

function canBeDirect({ isPageAligned, bytes }: Waiting): boolean {
  return isPageAligned && bytes.length % SECTOR_BYTES === 0;
}

async function writeAll(handle: FileHandle, block: number, run: readonly Waiting[]): Promise<void> {
  let position = block * BLOCK_BYTES;
  let pieces = run.map(({ bytes }) => bytes);
  while (pieces.length > 0) {
    const { bytesWritten } = await handle.writev(pieces, position);
    position += bytesWritten;
    pieces = rest(pieces, bytesWritten);
  }
}

/** Without the first `count` bytes. */
function rest(pieces: readonly Uint8Array[], count: number): Uint8Array[] {
  let skip = count;
  return pieces.flatMap((piece) => {
    const left = piece.subarray(Math.min(skip, piece.length));
    skip -= piece.length - left.length;
    return left.length > 0 ? [left] : [];
  });
}
