import { closeSync, openSync, truncateSync, writeSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { ContentId } from '../../src/base/ids.ts';
import { checksumsOf } from '../../src/cache/blocks.ts';
import { BLOCK_BYTES, type CachedContent } from '../../src/cache/contract.ts';
import { blockOf, bytesOf, type CacheFixture, createFixture, pattern } from './support.ts';

let fixture: CacheFixture;

beforeEach(async () => {
  fixture = await createFixture();
});

afterEach(() => fixture.dispose());

async function files(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

async function putAll(content: CachedContent, bytes: Uint8Array): Promise<boolean[]> {
  return Promise.all(
    Array.from({ length: content.blockCount }, (_, block) => content.put(block, blockOf(bytes, block))),
  );
}

test('blocks come back as they were put, also after a restart', async () => {
  const bytes = pattern(2 * BLOCK_BYTES + 1000);
  const id = fixture.allocate();
  const cache = await fixture.open();
  const content = await cache.open(id, bytes.length);
  expect(content.blockCount).toBe(3);
  expect(await content.put(2, blockOf(bytes, 2))).toBe(true);
  expect(content.isComplete).toBe(false);
  expect(await content.slice(0, 10)).toBeUndefined();
  expect(await bytesOf(await content.slice(2 * BLOCK_BYTES + 10, 5000))).toEqual(bytes.subarray(2 * BLOCK_BYTES + 10));
  await putAll(content, bytes);
  expect(content.isComplete).toBe(true);
  content.close();
  await cache.close();

  const again = await (await fixture.open()).open(id, bytes.length);
  expect(again.isComplete).toBe(true);
  expect(await bytesOf(await again.slice(100, 2 * BLOCK_BYTES))).toEqual(bytes.subarray(100, 100 + 2 * BLOCK_BYTES));
});

test('blocks that come all at once, in any order, are each where they belong', async () => {
  const cache = await fixture.open();
  const bytes = pattern(50 * BLOCK_BYTES + 77);
  const content = await cache.open(fixture.allocate(), bytes.length);
  const order = Array.from({ length: content.blockCount }, (_, i) => (i * 7) % content.blockCount);
  const blocks = [...order, ...order].map((block) => content.put(block, blockOf(bytes, block)));
  expect(new Set(await Promise.all(blocks))).toEqual(new Set([true]));
  expect((await bytesOf(await content.slice(0, bytes.length)))?.equals(bytes)).toBe(true);
});

test('directory 0700, files 0600', async () => {
  const cache = await fixture.open();
  const content = await cache.open(fixture.allocate(), 10);
  await content.put(0, pattern(10));
  expect((await stat(fixture.directory)).mode & 0o777).toBe(0o700);
  const [file] = await files(fixture.directory);
  expect((await stat(file as string)).mode & 0o777).toBe(0o600);
});

test('two handles of one content see the same blocks', async () => {
  const cache = await fixture.open();
  const id = fixture.allocate();
  const [one, two] = [await cache.open(id, 5000), await cache.open(id, 5000)];
  await Promise.all([one.put(0, pattern(5000)), two.put(0, pattern(5000))]);
  expect(two.has(0)).toBe(true);
  expect(cache.usage().bytes).toBe(8192);
  one.close();
  one.close();
  expect(await bytesOf(await two.slice(0, 5000))).toEqual(pattern(5000));
});

test('a block that the disk changed is noticed after a restart, and only that one is lost', async () => {
  const bytes = pattern(3 * BLOCK_BYTES);
  const id = fixture.allocate();
  const first = await fixture.open();
  const content = await first.open(id, bytes.length);
  await putAll(content, bytes);
  await first.close();
  const [path] = await files(fixture.directory);
  const fd = openSync(path as string, 'r+');
  writeSync(fd, Buffer.from('damaged'), 0, 7, BLOCK_BYTES + 77);
  closeSync(fd);

  const cache = await fixture.open();
  const again = await cache.open(id, bytes.length);
  expect(await again.slice(0, bytes.length)).toBeUndefined();
  expect([again.has(0), again.has(1), again.has(2)]).toEqual([true, false, true]);
  expect(cache.usage().damagedBlocks).toBe(1);
  await again.put(1, blockOf(bytes, 1));
  expect(await bytesOf(await again.slice(0, bytes.length))).toEqual(bytes);
});

test('a file that was cut off is noticed after a restart', async () => {
  const bytes = pattern(2 * BLOCK_BYTES);
  const id = fixture.allocate();
  const first = await fixture.open();
  await putAll(await first.open(id, bytes.length), bytes);
  await first.close();
  const [path] = await files(fixture.directory);
  truncateSync(path as string, BLOCK_BYTES + 5);
  const again = await (await fixture.open()).open(id, bytes.length);
  expect(await bytesOf(await again.slice(0, BLOCK_BYTES))).toEqual(blockOf(bytes, 0));
  expect(await again.slice(BLOCK_BYTES, 10)).toBeUndefined();
});

test('rm -r while in use costs only the blocks', async () => {
  const cache = await fixture.open();
  const bytes = pattern(2 * BLOCK_BYTES);
  const content = await cache.open(fixture.allocate(), bytes.length);
  await putAll(content, bytes);
  const slice = await content.slice(0, bytes.length);
  await rm(fixture.directory, { recursive: true });
  // A slice in use keeps its bytes.
  expect(await bytesOf(slice)).toEqual(bytes);
  fixture.clock.advance(5000);
  expect(await content.slice(0, 10)).toBeUndefined();
  expect(content.has(0)).toBe(false);
  expect(cache.usage().bytes).toBe(0);
  expect(await putAll(content, bytes)).toEqual([true, true]);
  expect(await bytesOf(await content.slice(0, bytes.length))).toEqual(bytes);
  const other = await cache.open(fixture.allocate(), 10);
  expect(await other.put(0, pattern(10))).toBe(true);
});

test('the whole file is given away when it is complete and compared', async () => {
  const first = await fixture.open();
  const bytes = pattern(2 * BLOCK_BYTES + 10);
  const id = fixture.allocate();
  const content = await first.open(id, bytes.length);
  await content.put(0, bytes.subarray(0, BLOCK_BYTES));
  expect(await content.whole(true)).toBeUndefined();
  await putAll(content, bytes);
  expect(await bytesOf(await content.whole(false))).toEqual(bytes);
  fixture.clock.advance(3_600_001);
  expect(await content.whole(false)).toBeUndefined();
  expect(await bytesOf(await content.slice(0, bytes.length))).toEqual(bytes);
  expect(await bytesOf(await content.whole(false))).toEqual(bytes);
  content.close();
  await first.close();
  const again = await (await fixture.open()).open(id, bytes.length);
  expect(await again.whole(false)).toBeUndefined();
  expect(await bytesOf(await again.whole(true))).toEqual(bytes);
});

test('a file that is moved out is no longer in the cache, and who reads it goes on', async () => {
  const cache = await fixture.open();
  const bytes = pattern(2 * BLOCK_BYTES);
  const content = await cache.open(fixture.allocate(), bytes.length);
  await putAll(content, bytes);
  const whole = await content.whole(false);
  const path = `${fixture.directory}-moved`;
  expect(await content.moveOut(path, whole?.fd ?? -1)).toBe(true);
  expect(await readFile(path)).toEqual(bytes);
  expect([content.has(0), content.isComplete, cache.usage().bytes]).toEqual([false, false, 0]);
  expect(await content.moveOut(path, whole?.fd ?? -1)).toBe(false);
  // The same content once more, in another file.
  await putAll(content, bytes);
  expect(await content.moveOut(path, whole?.fd ?? -1)).toBe(false);
  await rm(path);
  expect(await bytesOf(whole)).toEqual(bytes);
  expect(await bytesOf(await content.slice(0, bytes.length))).toEqual(bytes);
  const vanished = await content.whole(false);
  await rm(fixture.directory, { recursive: true });
  expect(await content.moveOut(path, vanished?.fd ?? -1)).toBe(false);
  vanished?.release();
});

test('a content whose file is gone is dropped when it is found', async () => {
  const id = fixture.allocate();
  const first = await fixture.open();
  await putAll(await first.open(id, 1000), pattern(1000));
  await first.close();
  await rm(fixture.directory, { recursive: true });
  const cache = await fixture.open();
  const content = await cache.open(id, 1000);
  expect(await content.slice(0, 1000)).toBeUndefined();
  expect(cache.usage().bytes).toBe(0);
  content.close();
  await cache.close();
  expect(fixture.contents.get(id)).toBeUndefined();
});

test('the limit holds while 50 writers run; the least recently used go', async () => {
  const limitBytes = 20 * BLOCK_BYTES;
  const cache = await fixture.open({ limitBytes });
  let highestBytes = 0;
  const write = async (seed: number) => {
    const bytes = pattern(2 * BLOCK_BYTES, seed);
    const content = await cache.open(fixture.allocate(), bytes.length);
    const kept = await putAll(content, bytes);
    const onDisk = await Promise.all((await files(fixture.directory)).map((path) => stat(path).catch(() => undefined)));
    highestBytes = Math.max(
      highestBytes,
      onDisk.reduce((sum, file) => sum + (file?.blocks ?? 0) * 512, 0),
    );
    content.close();
    return kept;
  };
  const results = await Promise.all(Array.from({ length: 50 }, (_, seed) => write(seed)));
  expect(results.flat()).toContain(true);
  expect(highestBytes).toBeLessThanOrEqual(limitBytes);
  expect(cache.usage().bytes).toBeLessThanOrEqual(limitBytes);
  fixture.clock.advance(2000);
  expect(await write(99)).toEqual([true, true]);
  expect(cache.usage().evictedFiles).toBeGreaterThan(0);
});

test('eviction follows use, also use that only touch tells', async () => {
  const cache = await fixture.open({ limitBytes: 4 * BLOCK_BYTES });
  const ids: ContentId[] = [];
  for (let seed = 0; seed < 4; seed += 1) {
    const id = fixture.allocate();
    const content = await cache.open(id, BLOCK_BYTES);
    await content.put(0, pattern(BLOCK_BYTES, seed));
    content.close();
    ids.push(id);
    fixture.clock.advance(1000);
  }
  cache.touch(ids[0] as ContentId);
  const next = await cache.open(fixture.allocate(), BLOCK_BYTES);
  expect(await next.put(0, pattern(BLOCK_BYTES))).toBe(true);
  const present = await Promise.all(ids.map(async (id) => (await cache.open(id, BLOCK_BYTES)).has(0)));
  expect(present).toEqual([true, false, true, true]);
});

test('open contents are not evicted: put refuses, and works again after they are closed', async () => {
  const cache = await fixture.open({ limitBytes: 2 * BLOCK_BYTES });
  const open = await cache.open(fixture.allocate(), 2 * BLOCK_BYTES);
  await putAll(open, pattern(2 * BLOCK_BYTES));
  const other = await cache.open(fixture.allocate(), BLOCK_BYTES);
  expect(await other.put(0, pattern(BLOCK_BYTES))).toBe(false);
  expect(cache.usage().refusedBlocks).toBe(1);
  expect(open.isComplete).toBe(true);
  open.close();
  expect(await other.put(0, pattern(BLOCK_BYTES))).toBe(true);
});

test('a lower limit at the next start is kept', async () => {
  const first = await fixture.open();
  for (let seed = 0; seed < 8; seed += 1) {
    const content = await first.open(fixture.allocate(), BLOCK_BYTES);
    await content.put(0, pattern(BLOCK_BYTES, seed));
    content.close();
  }
  await first.close();
  const cache = await fixture.open({ limitBytes: 3 * BLOCK_BYTES });
  await vi.waitFor(() => expect(cache.usage().bytes).toBeLessThanOrEqual(3 * BLOCK_BYTES));
  expect(await files(fixture.directory)).toHaveLength(3);
});

test('a floor of free space that cannot be kept refuses blocks', async () => {
  const cache = await fixture.open({ minFreeBytes: 2 ** 52 });
  const content = await cache.open(fixture.allocate(), 10);
  expect(await content.put(0, pattern(10))).toBe(false);
  expect(await files(fixture.directory)).toEqual([]);
});

test('adopt takes a file over, checksums included', async () => {
  const bytes = pattern(BLOCK_BYTES + 5000);
  const path = `${fixture.directory}-staged`;
  await writeFile(path, bytes);
  const cache = await fixture.open();
  const id = fixture.allocate();
  expect(await cache.adopt(id, bytes.length, path)).toBe(true);
  await expect(stat(path)).rejects.toThrow('ENOENT');
  const content = await cache.open(id, bytes.length);
  expect(content.isComplete).toBe(true);
  expect(await bytesOf(await content.slice(0, bytes.length))).toEqual(bytes);
  content.close();
  await vi.waitFor(async () => {
    fixture.clock.advance(1);
    expect(fixture.contents.get(id)?.checksums.length).toBe(2);
  }, 5000);
  await cache.close();
  const again = await (await fixture.open()).open(id, bytes.length);
  expect(await bytesOf(await again.slice(0, bytes.length))).toEqual(bytes);
});

test('adopt with checksums does not read the file, and they are compared like others', async () => {
  const bytes = pattern(BLOCK_BYTES + 5000);
  const others = pattern(BLOCK_BYTES + 5000).fill(0, 0, 1000);
  const path = `${fixture.directory}-staged`;
  const cache = await fixture.open();
  const [right, wrong] = [fixture.allocate(), fixture.allocate()];
  for (const id of [right, wrong]) {
    await writeFile(path, bytes);
    expect(await cache.adopt(id, bytes.length, path, checksumsOf(id === right ? bytes : others))).toBe(true);
  }
  expect(cache.usage().openFiles).toBe(0);
  await cache.close();
  const again = await fixture.open();
  expect(await (await again.open(wrong, bytes.length)).slice(0, 10)).toBeUndefined();
  expect(again.usage().damagedBlocks).toBe(1);
  const content = await again.open(right, bytes.length);
  expect(await bytesOf(await content.slice(0, bytes.length))).toEqual(bytes);
});

test('a file that is adopted at the very end is known, or gone', async () => {
  const path = `${fixture.directory}-staged`;
  await writeFile(path, pattern(16 * BLOCK_BYTES));
  const cache = await fixture.open();
  const id = fixture.allocate();
  expect(await cache.adopt(id, 16 * BLOCK_BYTES, path)).toBe(true);
  await cache.close();
  const entries = await readdir(fixture.directory, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  expect(files.length).toBe(fixture.contents.get(id) === undefined ? 0 : 1);
});

test('adopt from another file system copies', async () => {
  const path = `/dev/shm/tsfs-adopt-${process.pid}`;
  await writeFile(path, pattern(9000));
  const cache = await fixture.open();
  const id = fixture.allocate();
  expect(await cache.adopt(id, 9000, path)).toBe(true);
  await expect(stat(path)).rejects.toThrow('ENOENT');
  expect(await bytesOf(await (await cache.open(id, 9000)).slice(0, 9000))).toEqual(pattern(9000));
});

test('adopt refuses what does not fit or is not complete, and leaves nothing behind', async () => {
  const cache = await fixture.open({ limitBytes: BLOCK_BYTES });
  for (const [sizeBytes, claimedBytes] of [
    [2 * BLOCK_BYTES, 2 * BLOCK_BYTES],
    [100, 200],
  ] as const) {
    const path = `${fixture.directory}-staged`;
    await writeFile(path, pattern(sizeBytes));
    expect(await cache.adopt(fixture.allocate(), claimedBytes, path)).toBe(false);
    await expect(stat(path)).rejects.toThrow('ENOENT');
  }
  expect(await files(fixture.directory)).toEqual([]);
  expect(cache.usage().bytes).toBe(0);
});

test('remove deletes the file; open readers keep what they have until they close', async () => {
  const cache = await fixture.open();
  const id = fixture.allocate();
  const content = await cache.open(id, 1000);
  await content.put(0, pattern(1000));
  cache.remove(id);
  expect(await bytesOf(await content.slice(0, 1000))).toEqual(pattern(1000));
  content.close();
  await vi.waitFor(() => expect(cache.usage().bytes).toBe(0));
  expect(await files(fixture.directory)).toEqual([]);
  expect(fixture.contents.get(id)).toBeUndefined();

  const closed = fixture.allocate();
  const other = await cache.open(closed, 1000);
  await other.put(0, pattern(1000));
  other.close();
  cache.remove(closed);
  await vi.waitFor(async () => expect(await files(fixture.directory)).toEqual([]));
  expect((await cache.open(closed, 1000)).has(0)).toBe(false);
});

test('files that the index does not know are swept away at the next start, foreign ones stay', async () => {
  const first = await fixture.open();
  const kept = fixture.allocate();
  const lost = fixture.allocate();
  for (const id of [kept, lost]) {
    const content = await first.open(id, 100);
    await content.put(0, pattern(100));
    content.close();
  }
  await first.close();
  fixture.contents.delete([lost]);
  await mkdir(join(fixture.directory, '00', 'zz'), { recursive: true });
  const foreign = join(fixture.directory, '00', 'zz', 'notes.txt');
  await writeFile(foreign, 'mine');
  const cache = await fixture.open();
  await vi.waitFor(async () => {
    const rest = await files(fixture.directory);
    expect(rest).toHaveLength(2);
    expect(rest).toContain(foreign);
  });
  const content = await cache.open(kept, 100);
  expect(await bytesOf(await content.slice(0, 100))).toEqual(pattern(100));
});

test('descriptors are bounded', async () => {
  const cache = await fixture.open();
  for (let seed = 0; seed < 300; seed += 1) {
    const content = await cache.open(fixture.allocate(), 10);
    await content.put(0, pattern(10));
    content.close();
  }
  expect(cache.usage().openFiles).toBeLessThanOrEqual(256);
});

test('objects without bytes are complete', async () => {
  const cache = await fixture.open();
  const content = await cache.open(fixture.allocate(), 0);
  expect(content.isComplete).toBe(true);
  expect(await content.slice(0, 10)).toBeUndefined();
});
