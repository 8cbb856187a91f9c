import { rm } from 'node:fs/promises';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { silentLogger } from '../../src/base/log.ts';
import { BLOCK_BYTES, type BlockCache, type CacheOptions } from '../../src/cache/contract.ts';
import type { GetRequest } from '../../src/store/contract.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { ContentReader, Downloader } from '../../src/transfer/contract.ts';
import { createDownloader } from '../../src/transfer/download.ts';
import { bytesOf, type CacheFixture, createFixture, pattern } from '../cache/support.ts';
import { damaged, filling, PLAIN, type Spy, spyOn, tornAfter, withBody } from './support.ts';

const MIB = 1024 * 1024;

let fixture: CacheFixture;
let memory: MemoryStore;
let spy: Spy;
let cache: BlockCache;
let downloader: Downloader;

beforeEach(async () => {
  fixture = await createFixture();
  memory = new MemoryStore();
  spy = spyOn(memory);
  await start();
});

afterEach(async () => {
  await downloader.close();
  expect(downloader.usage()).toMatchObject({ memoryBytes: 0, inFlight: 0 });
  await fixture.dispose();
});

async function start(options: Partial<CacheOptions> = {}, memoryLimitBytes = 64 * MIB): Promise<void> {
  cache = await fixture.open(options);
  downloader = createDownloader({ store: spy.store, cache, log: silentLogger, memoryLimitBytes });
}

async function restart(options: Partial<CacheOptions>, memoryLimitBytes = 64 * MIB): Promise<void> {
  await downloader.close();
  await cache.close();
  await start(options, memoryLimitBytes);
}

/** Puts an object and opens it. A multipart-like ETag is not compared with the bytes. */
async function openObject(bytes: Uint8Array, key = 'key'): Promise<ContentReader> {
  const { etag } = await memory.put(key, { sizeBytes: bytes.length, open: () => bytes }, { attributes: PLAIN });
  return downloader.open({ key: () => key, etag, sizeBytes: bytes.length, content: fixture.allocate() });
}

async function readFrom(reader: ContentReader, offset: number, length: number): Promise<Uint8Array> {
  const slice = await reader.read(offset, length);
  if (slice.kind === 'file') return (await bytesOf(slice)) as Buffer;
  const bytes = Buffer.concat(slice.pieces);
  slice.release();
  return bytes;
}

function equal(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}

test('a small object comes with one GET, whole, for many readers at once', async () => {
  const bytes = pattern(MIB - 10);
  const reader = await openObject(bytes);
  const reads = await Promise.all(Array.from({ length: 50 }, (_, at) => readFrom(reader, at * 1000, 5000)));
  reads.forEach((read, at) => {
    expect(equal(read, bytes.subarray(at * 1000, at * 1000 + 5000))).toBe(true);
  });
  expect(spy.count('get')).toBe(1);
  await vi.waitFor(() => expect(reader.isComplete).toBe(true));
  const slice = await reader.read(0, bytes.length);
  expect(slice.kind).toBe('file');
  if (slice.kind === 'file') slice.release();
  reader.close();
});

test('reads end at the end of the object', async () => {
  const reader = await openObject(pattern(1000));
  expect((await readFrom(reader, 900, 5000)).length).toBe(100);
  expect((await readFrom(reader, 1000, 10)).length).toBe(0);
  reader.close();
});

test('random reads equal the content and fetch only their blocks', async () => {
  const bytes = pattern(40 * MIB);
  const reader = await openObject(bytes);
  const blocks = new Set<number>();
  for (let step = 0; step < 60; step += 1) {
    const offset = (step * 7_368_787) % (bytes.length - 100_000);
    const length = 1 + ((step * 7919) % 100_000);
    for (let block = Math.floor(offset / BLOCK_BYTES); block * BLOCK_BYTES < offset + length; block += 1)
      blocks.add(block);
    expect(equal(await readFrom(reader, offset, length), bytes.subarray(offset, offset + length))).toBe(true);
  }
  expect(spy.requestedBytes()).toBeLessThanOrEqual((blocks.size + 8) * BLOCK_BYTES);
  reader.close();
});

test('a sequential reader is read ahead for, with few and larger requests', async () => {
  const bytes = pattern(40 * MIB);
  const reader = await openObject(bytes);
  for (let offset = 0; offset < bytes.length; offset += 128 * 1024) {
    expect(equal(await readFrom(reader, offset, 128 * 1024), bytes.subarray(offset, offset + 128 * 1024))).toBe(true);
    // Let the disk have its turn, as it has between requests of a kernel.
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  expect(spy.count('get')).toBeLessThanOrEqual(40);
  expect(spy.requestedBytes()).toBe(bytes.length);
  reader.close();
});

test('two sequential readers of one object share the requests', async () => {
  const bytes = pattern(20 * MIB);
  const reader = await openObject(bytes);
  const run = async () => {
    for (let offset = 0; offset < bytes.length; offset += MIB) {
      expect(equal(await readFrom(reader, offset, MIB), bytes.subarray(offset, offset + MIB))).toBe(true);
    }
  };
  await Promise.all([run(), run()]);
  expect(spy.requestedBytes()).toBe(bytes.length);
  reader.close();
});

test('a read over present and missing blocks', async () => {
  const bytes = pattern(4 * MIB);
  const reader = await openObject(bytes);
  await readFrom(reader, MIB, 10);
  await vi.waitFor(() => expect(downloader.usage().memoryBytes).toBe(0));
  expect(equal(await readFrom(reader, MIB - 1000, MIB), bytes.subarray(MIB - 1000, 2 * MIB - 1000))).toBe(true);
  expect(spy.requestedBytes()).toBe(5 * BLOCK_BYTES);
  reader.close();
});

test('the first block is delivered before the rest of its request', async () => {
  const bytes = pattern(4 * MIB);
  const reader = await openObject(bytes);
  let go = () => {};
  const gate = new Promise<void>((resolve) => {
    go = resolve;
  });
  spy.onGet = (result) =>
    withBody(result, async function* (body) {
      let position = 0;
      for await (const chunk of body) {
        if (position >= BLOCK_BYTES) await gate;
        position += chunk.length;
        yield chunk;
      }
    });
  const whole = reader.readBytes(0, 4 * MIB);
  expect(equal(await readFrom(reader, 0, 1000), bytes.subarray(0, 1000))).toBe(true);
  go();
  expect(equal(await whole, bytes)).toBe(true);
  reader.close();
});

test('a torn body is continued where it broke, and never cached', async () => {
  const bytes = pattern(3 * MIB);
  const reader = await openObject(bytes);
  let torn = 0;
  spy.onGet = (result) => (torn++ < 2 ? withBody(result, (body) => tornAfter(body, MIB + 5)) : result);
  expect(equal(await reader.readBytes(0, bytes.length), bytes)).toBe(true);
  const ranges = spy.calls.map(({ args }) => (args[1] as GetRequest).range);
  expect(ranges).toEqual([undefined, { offset: MIB, length: 2 * MIB }, { offset: 2 * MIB, length: MIB }]);
  reader.close();
});

test('a body that always breaks ends in an error, and the next read starts anew', async () => {
  const bytes = pattern(100_000);
  const reader = await openObject(bytes);
  spy.onGet = (result) => withBody(result, (body) => tornAfter(body, 10));
  await expect(reader.read(0, 10)).rejects.toMatchObject({ kind: 'Transport' });
  expect(spy.count('get')).toBe(5);
  spy.onGet = (result) => result;
  expect(equal(await readFrom(reader, 0, bytes.length), bytes)).toBe(true);
  reader.close();
});

test('bytes that do not match the MD5 are fetched once more', async () => {
  const bytes = pattern(100_000);
  const reader = await openObject(bytes);
  let answers = 0;
  spy.onGet = (result) => (answers++ === 0 ? withBody(result, (body) => damaged(body, 1)) : result);
  expect(equal(await readFrom(reader, 0, bytes.length), bytes)).toBe(true);
  expect(spy.count('get')).toBe(2);
  reader.close();
});

test('bytes that come damaged in two ways are an error, and not cached', async () => {
  const reader = await openObject(pattern(100_000));
  let answers = 0;
  spy.onGet = (result) => withBody(result, (body) => damaged(body, ++answers));
  await expect(reader.read(0, 10)).rejects.toMatchObject({ kind: 'Corrupt' });
  expect(cache.usage().bytes).toBe(0);
  reader.close();
});

test('a large object that came damaged is found when all of it is there, forgotten, and told', async () => {
  const bytes = pattern(3 * MIB);
  const { etag } = await memory.put('key', { sizeBytes: bytes.length, open: () => bytes }, { attributes: PLAIN });
  const onDamage = vi.fn();
  const source = { key: () => 'key', etag, sizeBytes: bytes.length, content: fixture.allocate(), onDamage };
  const reader = await downloader.open(source);
  let answers = 0;
  spy.onGet = (result) => (answers++ === 0 ? withBody(result, (body) => damaged(body, 1)) : result);
  expect(equal(await reader.readBytes(0, bytes.length), bytes)).toBe(false);
  await vi.waitFor(() => expect(onDamage).toHaveBeenCalledTimes(1));
  expect([reader.isComplete, cache.usage().damagedBlocks]).toEqual([false, 12]);
  expect(equal(await reader.readBytes(0, bytes.length), bytes)).toBe(true);
  expect(onDamage).toHaveBeenCalledTimes(1);
  reader.close();
});

test('fetchAll gives no damaged object', async () => {
  const bytes = pattern(9 * MIB);
  const reader = await openObject(bytes);
  let answers = 0;
  spy.onGet = (result) => (answers++ === 1 ? withBody(result, (body) => damaged(body, 1)) : result);
  expect(await reader.fetchAll()).toBe(true);
  expect(equal(await readFrom(reader, 0, bytes.length), bytes)).toBe(true);
  expect(cache.usage().damagedBlocks).toBe(36);
  reader.close();
});

test('a large object whose ETag is no MD5 is fetched twice, and believed', async () => {
  const bytes = pattern(2 * MIB);
  const etag = 'd41d8cd98f00b204e9800998ecf8427e';
  spy.onGet = (result) => ({ ...result, head: { ...result.head, etag } });
  spy.before = ({ operation, args }) => {
    if (operation === 'get') delete (args[1] as { ifMatch?: string }).ifMatch;
  };
  for (const gets of [2, 3]) {
    await memory.put('key', { sizeBytes: bytes.length, open: () => bytes }, { attributes: PLAIN });
    const source = { key: () => 'key', etag, sizeBytes: bytes.length, content: fixture.allocate() };
    const reader = await downloader.open(source);
    expect(await reader.fetchAll()).toBe(true);
    expect(spy.count('get')).toBe(gets);
    reader.close();
  }
});

test('an ETag that is no MD5 though it looks like one is learnt', async () => {
  const etag = 'd41d8cd98f00b204e9800998ecf8427e';
  spy.onGet = (result) => ({ ...result, head: { ...result.head, etag } });
  spy.before = ({ operation, args }) => {
    if (operation === 'get') delete (args[1] as { ifMatch?: string }).ifMatch;
  };
  for (const [key, gets] of [
    ['one', 2],
    ['two', 3],
  ] as const) {
    await memory.put(key, { sizeBytes: 1000, open: () => pattern(1000) }, { attributes: PLAIN });
    const reader = await downloader.open({ key: () => key, etag, sizeBytes: 1000, content: fixture.allocate() });
    expect(equal(await readFrom(reader, 0, 1000), pattern(1000))).toBe(true);
    expect(spy.count('get')).toBe(gets);
    reader.close();
  }
});

test('another version is PreconditionFailed, a deleted one NotFound; what is cached stays readable', async () => {
  const bytes = pattern(4 * MIB);
  const reader = await openObject(bytes);
  await readFrom(reader, 0, 1000);
  await memory.put('key', { sizeBytes: 3, open: () => Buffer.from('new') }, { attributes: PLAIN });
  await expect(reader.read(2 * MIB, 1000)).rejects.toMatchObject({ kind: 'PreconditionFailed' });
  expect(equal(await readFrom(reader, 0, 1000), bytes.subarray(0, 1000))).toBe(true);
  await memory.delete('key');
  await expect(reader.read(2 * MIB, 1000)).rejects.toMatchObject({ kind: 'NotFound' });
  reader.close();
});

test('when the cache refuses, reads come from memory, within its bound', async () => {
  await restart({ limitBytes: BLOCK_BYTES - 1 }, 8 * MIB);
  const bytes = pattern(20 * MIB);
  const reader = await openObject(bytes);
  for (let offset = 0; offset < bytes.length; offset += 100_000) {
    expect(equal(await readFrom(reader, offset, 100_000), bytes.subarray(offset, offset + 100_000))).toBe(true);
    expect(downloader.usage().memoryBytes).toBeLessThanOrEqual(8 * MIB);
  }
  expect(spy.requestedBytes()).toBeLessThan(1.2 * bytes.length);
  expect(await reader.fetchAll()).toBe(false);
  reader.close();
});

test.each([
  ['that keeps all', {}],
  ['that keeps a part', { limitBytes: 5 * MIB }],
  ['that keeps nothing', { limitBytes: BLOCK_BYTES - 1 }],
])('blocks share memory on their way into a cache %s, and nobody sees it', async (_, options) => {
  await restart(options, 16 * MIB);
  spy.onGet = (result) => ({ ...result, body: filling(result.body) });
  const files = await Promise.all(
    ['one', 'two'].map(async (key, seed) => {
      const bytes = pattern(20 * MIB + 12_345, seed);
      return { bytes, reader: await openObject(bytes, key) };
    }),
  );
  const readAll = async ({ bytes, reader }: (typeof files)[number]) => {
    for (let offset = 0; offset < bytes.length; offset += 300_000) {
      expect(equal(await readFrom(reader, offset, 300_000), bytes.subarray(offset, offset + 300_000))).toBe(true);
    }
  };
  await Promise.all([...files, ...files].map(readAll));
  for (const { reader } of files) reader.close();
});

test('what memory has of an object that arrived damaged is not read again', async () => {
  const bytes = pattern(6 * MIB);
  const reader = await openObject(bytes);
  let gets = 0;
  spy.onGet = (result) => {
    gets += 1;
    return { ...result, body: filling(gets === 1 ? damaged(result.body, 1) : result.body) };
  };
  expect(await reader.fetchAll()).toBe(true);
  for (let offset = 0; offset < bytes.length; offset += MIB) {
    expect(equal(await readFrom(reader, offset, MIB), bytes.subarray(offset, offset + MIB))).toBe(true);
  }
  expect(gets).toBeGreaterThan(1);
  reader.close();
});

test('blocks that the cache refused are offered again', async () => {
  await restart({ limitBytes: 4 * BLOCK_BYTES });
  const other = await cache.open(fixture.allocate(), 4 * BLOCK_BYTES);
  for (let block = 0; block < 4; block += 1) await other.put(block, pattern(BLOCK_BYTES));
  const reader = await openObject(pattern(BLOCK_BYTES));
  expect(await reader.fetchAll()).toBe(false);
  expect((await reader.read(0, 10)).kind).toBe('memory');
  other.close();
  expect(await reader.fetchAll()).toBe(true);
  expect(spy.count('get')).toBe(1);
  expect(downloader.usage().memoryBytes).toBe(0);
  reader.close();
});

test('many readers of many objects stay within the memory', async () => {
  await restart({}, 8 * MIB);
  const bytes = pattern(2 * MIB);
  const readers = await Promise.all(Array.from({ length: 20 }, (_, at) => openObject(bytes, `key${at}`)));
  let highestBytes = 0;
  await Promise.all(
    readers.map(async (reader) => {
      for (let offset = 0; offset < bytes.length; offset += MIB) {
        expect(equal(await readFrom(reader, offset, MIB), bytes.subarray(offset, offset + MIB))).toBe(true);
        highestBytes = Math.max(highestBytes, downloader.usage().memoryBytes);
      }
      reader.close();
    }),
  );
  expect(highestBytes).toBeLessThanOrEqual(8 * MIB);
});

test('rm -r of the cache while reading', async () => {
  const bytes = pattern(6 * MIB);
  const reader = await openObject(bytes);
  for (let offset = 0; offset < bytes.length; offset += 200_000) {
    if (offset % 1_000_000 === 0) {
      await rm(fixture.directory, { recursive: true, force: true });
      fixture.clock.advance(5000);
    }
    expect(equal(await readFrom(reader, offset, 200_000), bytes.subarray(offset, offset + 200_000))).toBe(true);
  }
  reader.close();
});

test('a caller that gives up leaves the others their bytes', async () => {
  const bytes = pattern(500_000);
  const reader = await openObject(bytes);
  const abort = new AbortController();
  const abandoned = reader.read(0, 1000, abort.signal);
  const other = readFrom(reader, 0, 1000);
  abort.abort();
  await expect(abandoned).rejects.toMatchObject({ kind: 'Aborted' });
  expect(equal(await other, bytes.subarray(0, 1000))).toBe(true);
  expect(spy.count('get')).toBe(1);
  reader.close();
});

test('a large request that nobody waits for any more is cancelled', async () => {
  const reader = await openObject(pattern(8 * MIB));
  const abort = new AbortController();
  let signal: AbortSignal | undefined;
  spy.before = ({ args }) => {
    signal = (args[1] as { signal: AbortSignal }).signal;
    abort.abort();
  };
  await expect(reader.readBytes(0, 8 * MIB, abort.signal)).rejects.toMatchObject({ kind: 'Aborted' });
  await vi.waitFor(() => expect(downloader.usage()).toMatchObject({ memoryBytes: 0, inFlight: 0 }));
  expect(signal?.aborted).toBe(true);
  reader.close();
});

test('first: attributes and content in one request, shared by callers', async () => {
  const bytes = pattern(300_000);
  await memory.put('key', { sizeBytes: bytes.length, open: () => bytes }, { attributes: { metadata: { a: 'b' } } });
  const [one, two] = await Promise.all([
    downloader.first('key', fixture.allocate),
    downloader.first('key', fixture.allocate),
  ]);
  expect(one).toEqual(two);
  expect(one.head).toMatchObject({ sizeBytes: 300_000, metadata: { a: 'b' } });
  const { head, content } = one;
  const reader = await downloader.open({ key: () => 'key', etag: head.etag, sizeBytes: head.sizeBytes, content });
  expect(equal(await reader.readBytes(0, 300_000), bytes)).toBe(true);
  expect(spy.calls.map(({ operation }) => operation)).toEqual(['get']);
  reader.close();
});

test('first: of an empty object, of a large one, of none', async () => {
  await memory.put('empty', { sizeBytes: 0, open: () => new Uint8Array(0) }, { attributes: PLAIN });
  expect((await downloader.first('empty', fixture.allocate)).head.sizeBytes).toBe(0);
  const bytes = pattern(5 * MIB);
  await memory.put('large', { sizeBytes: bytes.length, open: () => bytes }, { attributes: PLAIN });
  const { head, content } = await downloader.first('large', fixture.allocate);
  const reader = await downloader.open({ key: () => 'large', etag: head.etag, sizeBytes: head.sizeBytes, content });
  expect(equal(await reader.readBytes(0, 5 * MIB), bytes)).toBe(true);
  expect(spy.requestedBytes()).toBe(MIB + 5 * MIB);
  await expect(downloader.first('none', fixture.allocate)).rejects.toMatchObject({ kind: 'NotFound' });
  reader.close();
});

test('fetchAll brings everything into the cache', async () => {
  const bytes = pattern(20 * MIB + 5);
  const reader = await openObject(bytes);
  expect(await reader.fetchAll()).toBe(true);
  expect(reader.isComplete).toBe(true);
  expect(spy.count('get')).toBe(3);
  const slice = await reader.read(0, MIB);
  expect(slice.kind).toBe('file');
  if (slice.kind === 'file') slice.release();
  reader.close();
});

test('the key is asked for at each request', async () => {
  const bytes = pattern(4 * MIB);
  const { etag } = await memory.put('old', { sizeBytes: bytes.length, open: () => bytes }, { attributes: PLAIN });
  let key = 'old';
  const reader = await downloader.open({ key: () => key, etag, sizeBytes: bytes.length, content: fixture.allocate() });
  await readFrom(reader, 0, 10);
  await memory.copy('old', 'new');
  await memory.delete('old');
  key = 'new';
  expect(equal(await readFrom(reader, 3 * MIB, 1000), bytes.subarray(3 * MIB, 3 * MIB + 1000))).toBe(true);
  reader.close();
});
