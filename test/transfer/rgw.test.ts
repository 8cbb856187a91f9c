/** Transfers against the real thing: what the in-memory store cannot tell. */
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/log.ts';
import type { ObjectStore } from '../../src/store/contract.ts';
import type { UploadJob } from '../../src/transfer/contract.ts';
import { createDownloader } from '../../src/transfer/download.ts';
import { createMover } from '../../src/transfer/move.ts';
import { createUploader } from '../../src/transfer/upload.ts';
import { createFixture, pattern } from '../cache/support.ts';
import { freshBucket, openBucket, testServer } from '../support/buckets.ts';
import { PLAIN, type Spy, spyOn } from './support.ts';

const MIB = 1024 * 1024;

let directory: string;
let file: FileHandle;
let bucket: ReturnType<typeof openBucket>;
let spy: Spy;
let store: ObjectStore;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tsfs-rgw-transfer-'));
  file = await open(join(directory, 'staged'), 'w+');
  bucket = openBucket(testServer(), await freshBucket());
  spy = spyOn(bucket);
  store = spy.store;
});

afterAll(async () => {
  bucket.close();
  await file.close();
  await rm(directory, { recursive: true });
});

function job(bytes: Uint8Array, base?: UploadJob['base']): UploadJob {
  const rest = {
    attributes: PLAIN,
    exclusive: false,
    base,
    expecting: () => {},
    prepare: async () => {},
  };
  return { key: 'large', fd: file.fd, sizeBytes: bytes.length, ...rest };
}

test('60 MiB go up in parts, are changed by copied parts, and come back equal', async () => {
  const uploader = createUploader({ store, log: silentLogger });
  const bytes = pattern(60 * MIB);
  await file.write(bytes, 0, bytes.length, 0);
  const first = await uploader.upload(job(bytes));
  expect(first.multipart).toBe(true);
  expect(await uploader.matches(file.fd, bytes.length, first.etag)).toBe(true);

  const change = pattern(5000, 7);
  bytes.set(change, 42 * MIB);
  await file.write(change, 0, change.length, 42 * MIB);
  const changed = [{ start: 42 * MIB, end: 42 * MIB + 5000 }];
  const base = { key: 'large', etag: first.etag, sizeBytes: bytes.length, changed };
  const before = spy.count('uploadPart');
  const second = await uploader.upload(job(bytes, base));
  expect([spy.count('copyPart'), spy.count('uploadPart') - before]).toEqual([2, 1]);

  const fixture = await createFixture();
  try {
    const downloader = createDownloader({ store, cache: await fixture.open(), log: silentLogger });
    const { etag } = second;
    const content = fixture.allocate();
    const reader = await downloader.open({ key: () => 'large', etag, sizeBytes: bytes.length, content });
    for (let offset = 0; offset < bytes.length; offset += MIB) {
      const piece = await reader.readBytes(offset, MIB);
      expect(Buffer.compare(piece, bytes.subarray(offset, offset + MIB))).toBe(0);
    }
    reader.close();
    await downloader.close();
  } finally {
    await fixture.dispose();
  }
}, 60_000);

test('a tree is moved, odd names included', async () => {
  const names = ['', 'a', 'b/c', 'd e+f&g', 'ü/日本語', 'x%20y'];
  for (const name of names) {
    await store.put(`from/${name}`, { sizeBytes: 2, open: () => Buffer.from('hi') }, { attributes: PLAIN });
  }
  const mover = createMover({ store, log: silentLogger, listDirectory: directory });
  const move = { fromPrefix: 'from/', toPrefix: 'to/', markerKey: 'from/', keepsMarker: false, list: 'move' };
  expect(await mover.copyTree(move)).toBe(names.length);
  await mover.removeTree(move, { checked: true });
  await mover.forgetTree(move);
  const keys: string[] = [];
  for await (const { objects } of store.list({ prefix: '' })) keys.push(...objects.map(({ key }) => key));
  expect(keys.filter((key) => key !== 'large').sort()).toEqual(names.map((name) => `to/${name}`).sort());
}, 60_000);
