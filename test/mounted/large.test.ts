/**
 * A large file: written, appended to, changed in the middle, cut, and read back equal, in bounded memory. Its size is given by the
 * environment: `npm run test:large` takes 2 GiB.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open, stat, truncate } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { newBucket, startServer, type TestServer } from './harness.ts';

const MIB = 1024 * 1024;
const SIZE_BYTES = Number(process.env.TSFS_TEST_LARGE_MIB ?? 256) * MIB;
const LIMIT_MS = 120_000 + SIZE_BYTES / 10_000;
const MEMORY_LIMIT_BYTES = 300 * MIB;
const PIECE_BYTES = 4 * MIB;

/** The content that the file should have, without holding it: pieces told by their number, changed ranges on top. */
function piece(number: number): Buffer {
  const block = createHash('sha512').update(String(number)).digest();
  return Buffer.alloc(PIECE_BYTES, block);
}

async function writePieces(file: FileHandle, from: number, count: number): Promise<void> {
  for (let number = from; number < from + count; number++) await file.write(piece(number), 0, PIECE_BYTES, null);
}

interface Change {
  readonly offset: number;
  readonly bytes: Buffer;
}

/** Reads all of the file, and tells the first piece that is not what it should be. */
async function firstDifference(path: string, sizeBytes: number, change: Change): Promise<number | undefined> {
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.alloc(PIECE_BYTES);
    for (let start = 0; start < sizeBytes; start += PIECE_BYTES) {
      const expected = piece(start / PIECE_BYTES).subarray(0, Math.min(PIECE_BYTES, sizeBytes - start));
      const at = change.offset - start;
      if (at >= 0 && at < expected.length) change.bytes.copy(expected, at);
      let got = 0;
      while (got < expected.length) {
        const { bytesRead } = await file.read(buffer, got, expected.length - got, start + got);
        if (bytesRead === 0) return start;
        got += bytesRead;
      }
      if (!buffer.subarray(0, got).equals(expected)) return start;
    }
    return undefined;
  } finally {
    await file.close();
  }
}

/** Looks at the daemon's memory now and then; the returned function ends that, and tells the most it had. */
function watchMemory(server: TestServer): () => Promise<number> {
  let isWatching = true;
  const watching = (async () => {
    let most = 0;
    while (isWatching) {
      most = Math.max(most, await server.residentBytes());
      await sleep(100);
    }
    return most;
  })();
  return () => {
    isWatching = false;
    return watching;
  };
}

test(`a file of ${SIZE_BYTES / MIB} MiB`, { timeout: LIMIT_MS }, async () => {
  const bucket = await newBucket();
  const server = await startServer({ bucket });
  const path = server.path('large.bin');
  const pieces = SIZE_BYTES / PIECE_BYTES;
  const memory = watchMemory(server);

  const written = await open(path, 'wx');
  await writePieces(written, 0, pieces);
  await written.close();
  expect((await bucket.head('large.bin')).sizeBytes).toBe(SIZE_BYTES);

  const appended = await open(path, 'a');
  await writePieces(appended, pieces, 4);
  await appended.close();
  expect((await stat(path)).size).toBe(SIZE_BYTES + 4 * PIECE_BYTES);

  // Across the border of two pieces and of two parts, wherever those are.
  const change = { offset: Math.floor(pieces / 2) * PIECE_BYTES + 12_345, bytes: Buffer.alloc(MIB, 'changed') };
  const changed = await open(path, 'r+');
  await changed.write(change.bytes, 0, change.bytes.length, change.offset);
  await changed.close();

  const sizeBytes = SIZE_BYTES + PIECE_BYTES + 1000;
  await truncate(path, sizeBytes);
  expect((await bucket.head('large.bin')).sizeBytes).toBe(sizeBytes);

  expect(await firstDifference(path, sizeBytes, change)).toBe(undefined);
  expect(await memory()).toBeLessThan(MEMORY_LIMIT_BYTES);

  const other = await startServer({ bucket });
  const otherMemory = watchMemory(other);
  expect(await firstDifference(other.path('large.bin'), sizeBytes, change)).toBe(undefined);
  expect(await otherMemory()).toBeLessThan(MEMORY_LIMIT_BYTES);
});
