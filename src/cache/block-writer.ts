/**
 * Writes the blocks of one content. The kernel lets one call at a time write to a file, and others would hold threads that all files share: so one
 * call is under way, and what has come meanwhile goes with the next.
 */
import { BLOCK_BYTES } from './contract.ts';
import type { CacheFile } from './files.ts';

/** 4 MiB with one call. */
const RUN_MAX = 16;

interface Waiting {
  readonly file: CacheFile;
  readonly block: number;
  readonly bytes: Uint8Array;
  readonly done: PromiseWithResolvers<void>;
}

export class BlockWriter {
  readonly #queue: Waiting[] = [];
  #isBusy = false;

  /** The bytes may be used again when it has settled. Rejects with the errors of pwritev(2). */
  write(file: CacheFile, block: number, bytes: Uint8Array): Promise<void> {
    const done = Promise.withResolvers<void>();
    this.#queue.push({ file, block, bytes, done });
    if (!this.#isBusy) void this.#drain();
    return done.promise;
  }

  async #drain(): Promise<void> {
    this.#isBusy = true;
    for (let run = this.#takeRun(); run.length > 0; run = this.#takeRun()) {
      try {
        await writeRun(run);
        for (const { done } of run) done.resolve();
      } catch (error) {
        for (const { done } of run) done.reject(error);
      }
    }
    this.#isBusy = false;
  }

  /** The first that waits, and those that follow it in the file. */
  #takeRun(): Waiting[] {
    const run = this.#queue.splice(0, 1);
    for (let last = run[0]; last !== undefined && run.length < RUN_MAX; last = run.at(-1)) {
      const { file, block } = last;
      const next = this.#queue.findIndex((waiting) => waiting.file === file && waiting.block === block + 1);
      if (next < 0) break;
      run.push(...this.#queue.splice(next, 1));
    }
    return run;
  }
}

async function writeRun(run: readonly Waiting[]): Promise<void> {
  const [first] = run;
  if (first === undefined) return;
  let position = first.block * BLOCK_BYTES;
  let pieces = run.map(({ bytes }) => bytes);
  while (pieces.length > 0) {
    const { bytesWritten } = await first.file.handle.writev(pieces, position);
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
