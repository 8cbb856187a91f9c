import { type FileHandle, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BlockWriter } from '../../src/cache/block-writer.ts';
import { BLOCK_BYTES } from '../../src/cache/contract.ts';
import { CacheFiles } from '../../src/cache/files.ts';
import { BlockPool } from '../../src/transfer/block-pool.ts';
import { blockOf, type CacheFixture, createFixture, pattern } from './support.ts';

const { signal } = new AbortController();

let fixture: CacheFixture;
let files: CacheFiles;

beforeEach(async () => {
  fixture = await createFixture();
  files = new CacheFiles(fixture.directory, fixture.clock);
});

afterEach(async () => {
  await files.close();
  await fixture.dispose();
});

async function acquire() {
  const file = await files.acquire(fixture.allocate(), 'create');
  if (file === undefined) throw new Error('no file');
  return file;
}

/** Writes all of it in blocks of aligned memory, the last ones first. */
async function writeAligned(file: Awaited<ReturnType<typeof acquire>>, bytes: Uint8Array): Promise<void> {
  const pool = new BlockPool();
  const writer = new BlockWriter(files);
  const writes: Promise<void>[] = [];
  for (let block = Math.ceil(bytes.length / BLOCK_BYTES) - 1; block >= 0; block -= 1) {
    const memory = await pool.take(signal);
    const wanted = blockOf(bytes, block);
    memory.bytes.set(wanted);
    const { isPageAligned } = memory;
    writes.push(writer.write({ file, block, bytes: memory.bytes.subarray(0, wanted.length), isPageAligned }));
  }
  await Promise.all(writes);
}

test('whole blocks go past the page cache, the short last one through it', async () => {
  const bytes = pattern(20 * BLOCK_BYTES + 1234);
  const file = await acquire();
  const direct = await files.direct(file);
  let directBytes = 0;
  if (direct !== undefined) {
    const writev = direct.writev.bind(direct);
    direct.writev = async (pieces, position) => {
      const result = await writev(pieces, position);
      directBytes += result.bytesWritten;
      return result;
    };
  }
  await writeAligned(file, bytes);
  expect(directBytes).toBe(direct === undefined ? 0 : 20 * BLOCK_BYTES);
  expect(Buffer.compare(await file.handle.readFile(), bytes)).toBe(0);
  files.release(file);
});

test('a file system that takes no such writes gets them through the page cache', async () => {
  const bytes = pattern(5 * BLOCK_BYTES);
  const file = await acquire();
  const refusing = await open('/dev/null', 'w');
  refusing.writev = () => Promise.reject(Object.assign(new Error('EINVAL'), { code: 'EINVAL' }));
  file.direct = Promise.resolve<FileHandle | undefined>(refusing);
  await writeAligned(file, bytes);
  expect(Buffer.compare(await file.handle.readFile(), bytes)).toBe(0);
  expect(await files.direct(file)).toBeUndefined();
  files.release(file);
});

test('other errors are told to who waits for these blocks, and to nobody else', async () => {
  const file = await acquire();
  const path = join(fixture.directory, 'read-only');
  const readOnly = await open(path, 'w').then(async (made) => {
    await made.close();
    return open(path, 'r');
  });
  const writer = new BlockWriter(files);
  const broken = { handle: readOnly, direct: undefined, leases: 1, checkedAtMs: 0, detached: false };
  const bytes = pattern(BLOCK_BYTES);
  const results = await Promise.allSettled([
    writer.write({ file: broken, block: 0, bytes, isPageAligned: false }),
    writer.write({ file, block: 0, bytes, isPageAligned: false }),
  ]);
  expect(results.map(({ status }) => status)).toEqual(['rejected', 'fulfilled']);
  expect((await readFile(path)).length).toBe(0);
  expect(Buffer.compare(await file.handle.readFile(), bytes)).toBe(0);
  await readOnly.close();
  files.release(file);
});
