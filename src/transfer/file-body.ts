/** Bodies of requests from ranges of a file that somebody else holds open. */
import { createHash } from 'node:crypto';
import { read } from 'node:fs';
import { promisify } from 'node:util';
import { type BodySource, StoreError } from '../store/contract.ts';
import { md5Base64 } from './etag.ts';

const readAt = promisify(read);

/** Small enough that hashing a piece does not hold up the JavaScript thread (about 0.4 ms). */
const PIECE_BYTES = 256 * 1024;
/** Bodies up to this size are sent from one buffer, read and hashed once. */
export const BUFFERED_BODY_BYTES = 8 * 1024 * 1024;

export interface FileRange {
  readonly fd: number;
  readonly offset: number;
  readonly lengthBytes: number;
}

/** The pieces of the range; every piece has a buffer of its own. */
export async function* readPieces(range: FileRange, pieceBytes = PIECE_BYTES): AsyncGenerator<Uint8Array> {
  const end = range.offset + range.lengthBytes;
  for (let position = range.offset; position < end; ) {
    const buffer = Buffer.allocUnsafeSlow(Math.min(pieceBytes, end - position));
    const { bytesRead } = await readAt(range.fd, buffer, 0, buffer.length, position);
    if (bytesRead === 0) throw new StoreError('InvalidRequest', 'the file became shorter while it was uploaded');
    position += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** Hex MD5 of the range. */
export async function digestRange(range: FileRange): Promise<string> {
  const hash = createHash('md5');
  for await (const piece of readPieces(range)) hash.update(piece);
  return hash.digest('hex');
}

export interface FileBody extends BodySource {
  readonly md5Hex: string;
}

/**
 * A body with its MD5. A known MD5 saves hashing. Large ranges are read twice, for the digest and for each attempt: the second time
 * they come from the page cache, and memory stays small.
 */
export async function fileBody(range: FileRange, knownMd5?: string): Promise<FileBody> {
  const sizeBytes = range.lengthBytes;
  if (sizeBytes > BUFFERED_BODY_BYTES) {
    const md5Hex = knownMd5 ?? (await digestRange(range));
    return { sizeBytes, md5Hex, md5: md5Base64(md5Hex), open: () => readPieces(range) };
  }
  const bytes = Buffer.allocUnsafeSlow(sizeBytes);
  const hash = createHash('md5');
  let filled = 0;
  for await (const piece of readPieces(range)) {
    bytes.set(piece, filled);
    filled += piece.length;
    if (knownMd5 === undefined) hash.update(piece);
  }
  const md5Hex = knownMd5 ?? hash.digest('hex');
  return { sizeBytes, md5Hex, md5: md5Base64(md5Hex), open: () => bytes };
}
