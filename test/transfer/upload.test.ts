import { createHash } from 'node:crypto';
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/log.ts';
import { checksumsOf } from '../../src/cache/blocks.ts';
import { type ObjectStore, StoreError } from '../../src/store/contract.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { UploadJob } from '../../src/transfer/contract.ts';
import { planPatch, planUpload } from '../../src/transfer/parts.ts';
import { createUploader, type UploaderOptions } from '../../src/transfer/upload.ts';
import { pattern } from '../cache/support.ts';
import { PLAIN, replacing, type Spy, spyOn } from './support.ts';

const MIB = 1024 * 1024;

let directory: string;
let file: FileHandle;
let memory: MemoryStore;
let spy: Spy;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tsfs-upload-test-'));
  file = await open(join(directory, 'staged'), 'w+');
  memory = new MemoryStore();
  spy = spyOn(memory);
});

afterEach(async () => {
  await file.close();
  await rm(directory, { recursive: true });
});

function uploader(options: Partial<UploaderOptions> = {}) {
  return createUploader({ store: spy.store, log: silentLogger, ...options });
}

async function jobFor(bytes: Uint8Array, change: Partial<UploadJob> = {}): Promise<UploadJob> {
  await file.write(bytes, 0, bytes.length, 0);
  return {
    key: 'key',
    fd: file.fd,
    sizeBytes: bytes.length,
    attributes: PLAIN,
    exclusive: false,
    base: undefined,
    expecting: () => {},
    prepare: async () => {},
    ...change,
  };
}

async function content(store: ObjectStore, key: string): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of (await store.get(key)).body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function operations(): string[] {
  return spy.calls.map(({ operation }) => operation);
}

async function putBase(bytes: Uint8Array) {
  const { etag } = await memory.put('key', { sizeBytes: bytes.length, open: () => bytes }, { attributes: PLAIN });
  return { key: 'key', etag, sizeBytes: bytes.length };
}

test.each([0, 1, 300_000, 9 * MIB])('one PUT of %i bytes', async (sizeBytes) => {
  const bytes = pattern(sizeBytes);
  const result = await uploader().upload(await jobFor(bytes));
  expect(result).toMatchObject({ etag: createHash('md5').update(bytes).digest('hex'), multipart: false });
  expect(result.checksums).toEqual(sizeBytes > 8 * MIB ? undefined : checksumsOf(bytes));
  expect((await content(memory, 'key')).equals(bytes)).toBe(true);
  expect(operations()).toEqual(['put']);
});

test('large files go in parts, a bounded number at once', async () => {
  const bytes = pattern(33 * MIB);
  let running = 0;
  let highest = 0;
  spy.before = async ({ operation }) => {
    if (operation !== 'uploadPart') return;
    running += 1;
    highest = Math.max(highest, running);
    await new Promise((resolve) => setImmediate(resolve));
    running -= 1;
  };
  const result = await uploader({ partSizeBytes: 5 * MIB, parallel: 3 }).upload(await jobFor(bytes));
  expect(result.multipart).toBe(true);
  expect((await content(memory, 'key')).equals(bytes)).toBe(true);
  expect(spy.count('uploadPart')).toBe(7);
  expect(highest).toBeLessThanOrEqual(3);
});

test('an exclusive upload fails when the key exists, in one PUT and in parts', async () => {
  await putBase(pattern(3));
  for (const sizeBytes of [10, 26 * MIB]) {
    const job = await jobFor(pattern(sizeBytes), { exclusive: true });
    await expect(uploader().upload(job)).rejects.toMatchObject({ kind: 'PreconditionFailed' });
  }
  expect(memory.pendingUploads).toBe(0);
  expect((await content(memory, 'key')).length).toBe(3);
});

test('a failed part aborts the upload', async () => {
  spy.before = ({ operation, args }) => {
    if (operation === 'uploadPart' && args[1] === 2) throw new StoreError('Unavailable', 'no');
  };
  await expect(uploader().upload(await jobFor(pattern(26 * MIB)))).rejects.toMatchObject({ kind: 'Unavailable' });
  expect(memory.pendingUploads).toBe(0);
  await expect(memory.head('key')).rejects.toMatchObject({ kind: 'NotFound' });
});

test('the signal aborts the upload', async () => {
  const abort = new AbortController();
  spy.before = ({ operation }) => {
    if (operation === 'uploadPart') abort.abort();
  };
  const job = await jobFor(pattern(26 * MIB), { signal: abort.signal });
  await expect(uploader().upload(job)).rejects.toMatchObject({ kind: 'Aborted' });
  expect(memory.pendingUploads).toBe(0);
});

test('a change in the middle and an append upload only their neighbourhood', async () => {
  const base = await putBase(pattern(60 * MIB));
  const bytes = Buffer.concat([pattern(60 * MIB), pattern(MIB, 2)]);
  bytes.set(pattern(4096, 3), 31 * MIB);
  const prepared: [number, number][] = [];
  const changed = [{ start: 31 * MIB, end: 31 * MIB + 4096 }];
  const job = await jobFor(bytes, {
    base: { ...base, changed },
    prepare: async (offset, length) => void prepared.push([offset, length]),
  });
  await uploader().upload(job);
  expect((await content(memory, 'key')).equals(bytes)).toBe(true);
  expect([spy.count('copyPart'), spy.count('uploadPart'), spy.count('head')]).toEqual([2, 2, 1]);
  expect(prepared.sort((a, b) => a[0] - b[0])).toEqual([
    [30 * MIB, 5 * MIB],
    [60 * MIB, MIB],
  ]);
});

test('a store that cannot copy parts gets everything, and is not asked again', async () => {
  const base = await putBase(pattern(30 * MIB));
  spy.before = ({ operation }) => {
    if (operation === 'copyPart') throw new StoreError('NotSupported', 'no');
  };
  const up = uploader();
  const bytes = pattern(30 * MIB);
  bytes[0] = (bytes[0] ?? 0) ^ 1;
  await up.upload(await jobFor(bytes, { base: { ...base, changed: [{ start: 0, end: 1 }] } }));
  expect((await content(memory, 'key')).equals(bytes)).toBe(true);
  const asked = spy.count('copyPart');
  await up.upload(await jobFor(bytes, { base: { ...base, changed: [{ start: 0, end: 1 }] } }));
  expect(spy.count('copyPart')).toBe(asked);
  expect(memory.pendingUploads).toBe(0);
});

test('a base that is replaced while it is copied never gets mixed in', async () => {
  const base = await putBase(pattern(30 * MIB));
  const other = pattern(30 * MIB, 9);
  // A store that ignores the condition, as Ceph RGW does.
  spy.before = async ({ operation, args }) => {
    if (operation !== 'copyPart') return;
    delete (args[4] as { ifMatch?: string }).ifMatch;
    await memory.put('key', { sizeBytes: other.length, open: () => other }, { attributes: PLAIN });
  };
  const bytes = pattern(30 * MIB);
  bytes[0] = (bytes[0] ?? 0) ^ 1;
  let preparedBytes = 0;
  const job = await jobFor(bytes, {
    base: { ...base, changed: [{ start: 0, end: 1 }] },
    prepare: async (_, length) => {
      preparedBytes += length;
    },
  });
  await uploader().upload(job);
  expect((await content(memory, 'key')).equals(bytes)).toBe(true);
  expect(preparedBytes).toBeGreaterThanOrEqual(bytes.length);
});

test('an object that arrives damaged is sent again', async () => {
  const bytes = pattern(1000);
  let puts = 0;
  const store = replacing(memory, {
    put: (key, _, request) => {
      puts += 1;
      const sent = puts === 1 ? pattern(1000, 2) : bytes;
      return memory.put(key, { sizeBytes: 1000, open: () => sent }, request);
    },
  });
  const result = await uploader({ store }).upload(await jobFor(bytes, { exclusive: true }));
  expect(result.etag).toBe(createHash('md5').update(bytes).digest('hex'));
  expect(puts).toBe(2);
});

test('a part that arrives damaged is sent again', async () => {
  const bytes = pattern(12 * MIB);
  let parts = 0;
  const store = replacing(memory, {
    uploadPart: (upload, partNumber, body) => {
      parts += 1;
      const wrong = { sizeBytes: body.sizeBytes, open: () => pattern(body.sizeBytes, 2) };
      return memory.uploadPart(upload, partNumber, parts === 2 ? wrong : body);
    },
  });
  const up = uploader({ store, multipartThresholdBytes: 5 * MIB, partSizeBytes: 5 * MIB, parallel: 1 });
  await up.upload(await jobFor(bytes));
  expect((await content(memory, 'key')).equals(bytes)).toBe(true);
  expect(parts).toBe(4);
});

test('ETags that are no MD5s are learnt from the first object', async () => {
  const etag = 'f'.repeat(32);
  const store = replacing(memory, {
    put: async (...args) => {
      await memory.put(...args);
      return { etag };
    },
    get: (key) => memory.get(key),
  });
  const counted = spyOn(store);
  const up = uploader({ store: counted.store });
  await up.upload(await jobFor(pattern(10)));
  await up.upload(await jobFor(pattern(10)));
  expect(counted.calls.map(({ operation }) => operation)).toEqual(['put', 'get', 'put']);
});

test('an answer to the completion that was lost is recovered from the object', async () => {
  const store = replacing(memory, {
    completeMultipart: async (upload, parts) => {
      await memory.completeMultipart(upload, parts);
      throw new StoreError('NotFound', 'no such upload');
    },
  });
  const bytes = pattern(26 * MIB);
  const result = await uploader({ store }).upload(await jobFor(bytes));
  expect(result.etag).toBe((await memory.head('key')).etag);
});

test('uploads at once share memory and slots, and one that fails gives its back', async () => {
  // More than all bodies may take, and parts that are hashed together.
  const sizeBytes = 85 * MIB;
  await file.truncate(sizeBytes);
  const expected = createHash('md5')
    .update(Buffer.alloc(5 * MIB))
    .digest();
  let [sending, most, sent] = [0, 0, 0];
  const store = replacing(memory, {
    uploadPart: async ({ key }, partNumber, body) => {
      sending += 1;
      most = Math.max(most, sending);
      await nextTurn();
      sending -= 1;
      if (key === 'broken' && partNumber === 3) throw new StoreError('InvalidRequest', 'refused');
      expect(body.md5).toBe(expected.toString('base64'));
      sent += 1;
      return { partNumber, etag: expected.toString('hex') };
    },
    completeMultipart: async () => ({ etag: 'many-17' }),
  });
  const parallel = createUploader({ store, log: silentLogger, partSizeBytes: 5 * MIB, parallel: 3 });
  const job = await jobFor(Buffer.alloc(0), { sizeBytes });
  const keys = ['a', 'b', 'broken', 'c', 'd'];
  const results = await Promise.allSettled(keys.map((key) => parallel.upload({ ...job, key })));
  expect(results.map(({ status }) => status)).toEqual(keys.map((key) => (key === 'broken' ? 'rejected' : 'fulfilled')));
  expect(most).toBe(3);
  sent = 0;
  await parallel.upload(job);
  expect(sent).toBe(17);
});

test('matches: by MD5 and by the form that the own part size gives', async () => {
  const up = uploader();
  for (const sizeBytes of [1000, 26 * MIB]) {
    const job = await jobFor(pattern(sizeBytes));
    const { etag } = await up.upload(job);
    expect(await up.matches(file.fd, sizeBytes, etag)).toBe(true);
    await file.write(Buffer.from('x'), 0, 1, 500);
    expect(await up.matches(file.fd, sizeBytes, etag)).toBe(false);
  }
  expect(await up.matches(file.fd, 1000, 'something-else')).toBe(false);
});

test('plans obey the rules of S3 and cover the file', () => {
  const TIB = 1024 ** 4;
  const plans = [
    planUpload(5 * TIB, 10 * MIB),
    planUpload(26 * MIB, 10 * MIB),
    planPatch(5 * TIB, 5 * TIB, [{ start: TIB, end: TIB + 1 }], 10 * MIB),
    planPatch(
      101 * MIB + 7,
      99 * MIB + 1,
      [
        { start: 0, end: 1 },
        { start: 50 * MIB, end: 61 * MIB },
      ],
      12 * MIB,
    ),
    planPatch(30 * MIB, 60 * MIB, [], 10 * MIB),
  ];
  for (const parts of plans) {
    expect(parts.length).toBeLessThanOrEqual(10_000);
    let position = 0;
    for (const [index, part] of parts.entries()) {
      expect(part.partNumber).toBe(index + 1);
      expect(part.offset).toBe(position);
      expect(part.lengthBytes).toBeLessThanOrEqual(5 * 1024 * MIB);
      if (index < parts.length - 1) expect(part.lengthBytes).toBeGreaterThanOrEqual(5 * MIB);
      position += part.lengthBytes;
    }
  }
  expect(plans[3]?.filter((part) => part.kind === 'copy')).toHaveLength(2);
  expect(plans[4]?.every((part) => part.kind === 'copy')).toBe(true);
});
