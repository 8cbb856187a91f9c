/** Runs in a worker thread: reads ranges of files and hashes them on the way. Talks to `digester.ts`, which starts it. */
import { createHash } from 'node:crypto';
import { readSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';

export interface DigestRequest {
  readonly id: number;
  readonly fd: number;
  readonly offset: number;
  readonly lengthBytes: number;
  /** Where the bytes go; absent: only their digest is wanted. */
  readonly memory?: SharedArrayBuffer;
}

export type DigestAnswer = { readonly id: number } & (
  | { readonly md5Hex: string }
  | { readonly error: string; readonly code: string | undefined }
  | { readonly isTooShort: true }
);

/** Still in the processor's cache when it is hashed. */
const PIECE_BYTES = 128 * 1024;
const scratch = new Uint8Array(PIECE_BYTES);

/** Undefined: the file ends before the range does. */
function digest({ fd, offset, lengthBytes, memory }: DigestRequest): string | undefined {
  const hash = createHash('md5');
  for (let done = 0; done < lengthBytes; ) {
    const wantedBytes = Math.min(PIECE_BYTES, lengthBytes - done);
    const piece = memory === undefined ? scratch.subarray(0, wantedBytes) : new Uint8Array(memory, done, wantedBytes);
    const gotBytes = readSync(fd, piece, 0, wantedBytes, offset + done);
    if (gotBytes === 0) return undefined;
    hash.update(piece.subarray(0, gotBytes));
    done += gotBytes;
  }
  return hash.digest('hex');
}

function answer(request: DigestRequest): DigestAnswer {
  const { id } = request;
  try {
    const md5Hex = digest(request);
    return md5Hex === undefined ? { id, isTooShort: true } : { id, md5Hex };
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    return { id, error: message, code };
  }
}

parentPort?.on('message', (request: DigestRequest) => parentPort?.postMessage(answer(request)));
