/** Runs in a worker thread: reads ranges of files and hashes them on the way. Talks to `digester.ts`, which starts it. */
import { readSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { md5s } from './md5-lanes.ts';

export interface DigestRange {
  readonly fd: number;
  readonly offset: number;
  readonly lengthBytes: number;
  /** Where the bytes go; absent: only their digest is wanted. */
  readonly memory?: SharedArrayBuffer;
}

export interface DigestRequest {
  readonly id: number;
  /** Hashed together. */
  readonly ranges: readonly DigestRange[];
}

export type DigestAnswer = { readonly id: number } & (
  | { readonly md5Hexes: readonly string[] }
  | { readonly error: string; readonly code: string | undefined }
  | { readonly isTooShort: true }
);

/** Still in the processor's cache when it is hashed, with those of other ranges. */
const PIECE_BYTES = 64 * 1024;

class TooShortError extends Error {}

function digest(ranges: readonly DigestRange[]): readonly string[] {
  const sums = md5s(ranges.length);
  const scratch = ranges.map(({ memory }) => new Uint8Array(memory === undefined ? PIECE_BYTES : 0));
  const lengthBytes = Math.max(...ranges.map((range) => range.lengthBytes));
  for (let done = 0; done < lengthBytes; done += PIECE_BYTES) {
    sums.update(ranges.map((range, i) => readPiece(range, done, scratch[i] as Uint8Array)));
  }
  return sums.digests();
}

/** What the range has from there, of a piece; in `scratch`, when it has no memory. */
function readPiece(range: DigestRange, done: number, scratch: Uint8Array): Uint8Array {
  const { fd, offset, memory } = range;
  const pieceBytes = Math.max(0, Math.min(PIECE_BYTES, range.lengthBytes - done));
  if (pieceBytes === 0) return scratch.subarray(0, 0);
  const piece = memory === undefined ? scratch.subarray(0, pieceBytes) : new Uint8Array(memory, done, pieceBytes);
  for (let filled = 0; filled < pieceBytes; ) {
    const gotBytes = readSync(fd, piece, filled, pieceBytes - filled, offset + done + filled);
    if (gotBytes === 0) throw new TooShortError();
    filled += gotBytes;
  }
  return piece;
}

function answer({ id, ranges }: DigestRequest): DigestAnswer {
  try {
    return { id, md5Hexes: digest(ranges) };
  } catch (error) {
    if (error instanceof TooShortError) return { id, isTooShort: true };
    const { message, code } = error as NodeJS.ErrnoException;
    return { id, error: message, code };
  }
}

parentPort?.on('message', (request: DigestRequest) => parentPort?.postMessage(answer(request)));
