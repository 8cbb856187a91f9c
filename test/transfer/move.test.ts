import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/log.ts';
import { StoreError } from '../../src/store/contract.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { Mover } from '../../src/transfer/contract.ts';
import { createMover } from '../../src/transfer/move.ts';
import { Spool } from '../../src/transfer/spool.ts';
import { PLAIN, replacing, type Spy, spyOn } from './support.ts';

let directory: string;
let memory: MemoryStore;
let spy: Spy;
let mover: Mover;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tsfs-move-test-'));
  memory = new MemoryStore();
  spy = spyOn(memory);
  mover = createMover({ store: spy.store, log: silentLogger, spoolDirectory: directory });
});

afterEach(async () => {
  expect(await readdir(directory)).toEqual([]);
  await rm(directory, { recursive: true });
});

async function put(...keys: string[]): Promise<void> {
  for (const key of keys) {
    const bytes = Buffer.from(key);
    await memory.put(key, { sizeBytes: bytes.length, open: () => bytes }, { attributes: PLAIN });
  }
}

async function keys(): Promise<string[]> {
  const found: string[] = [];
  for await (const { objects } of memory.list({ prefix: '' })) found.push(...objects.map(({ key }) => key));
  return found.sort();
}

test('copy keeps the metadata or replaces it', async () => {
  const { etag } = await memory.put(
    'a',
    { sizeBytes: 0, open: () => new Uint8Array(0) },
    { attributes: { metadata: { x: '1' } } },
  );
  await mover.copy('a', 'b', { etag, sizeBytes: 0 }, undefined);
  await mover.copy('a', 'c', { etag, sizeBytes: 0 }, { metadata: { y: '2' }, contentType: 'text/plain' });
  expect((await memory.head('b')).metadata).toEqual({ x: '1' });
  expect(await memory.head('c')).toMatchObject({ metadata: { y: '2' }, contentType: 'text/plain' });
});

test('more than 5 GiB are copied in parts, with the metadata of the source', async () => {
  const GIB = 1024 ** 3;
  await put('a');
  const head = { ...(await memory.head('a')), metadata: { x: '1' }, sizeBytes: 6 * GIB };
  let copiedBytes = 0;
  const store = replacing(memory, {
    head: async () => head,
    copyPart: async (_upload, partNumber, fromKey, range, request) => {
      expect([fromKey, request?.ifMatch]).toEqual(['a', head.etag]);
      copiedBytes += range.length;
      return { partNumber, etag: '0'.repeat(32) };
    },
    completeMultipart: async (upload, parts) => ({ etag: `${upload.key}-${parts.length}` }),
  });
  const counted = spyOn(store);
  mover = createMover({ store: counted.store, log: silentLogger, spoolDirectory: directory });
  expect(await mover.copy('a', 'b', head, undefined)).toMatchObject({ etag: 'b-12', multipart: true });
  expect(copiedBytes).toBe(6 * GIB);
  const created = counted.calls.find(({ operation }) => operation === 'createMultipart');
  expect(created?.args[1]).toMatchObject({ attributes: { metadata: { x: '1' } } });
});

test('one delete is a DELETE, several are one batch', async () => {
  await put('a', 'b', 'c', 'd');
  await mover.delete('a');
  await Promise.all(['b', 'c', 'd', 'd'].map((key) => mover.delete(key)));
  expect(spy.calls.map(({ operation }) => operation)).toEqual(['delete', 'deleteMany']);
  expect(spy.calls[1]?.args[0]).toEqual(['b', 'c', 'd']);
  expect(await keys()).toEqual([]);
});

test('each caller of a batch gets the result of its key', async () => {
  const store = replacing(memory, {
    deleteMany: async () => [{ key: 'bad', error: new StoreError('AccessDenied', 'no') }],
  });
  mover = createMover({ store, log: silentLogger, spoolDirectory: directory });
  const results = await Promise.allSettled(['good', 'bad'].map((key) => mover.delete(key)));
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
});

test('a store without batches gets single deletes, and is not asked again', async () => {
  spy.before = ({ operation }) => {
    if (operation === 'deleteMany') throw new StoreError('NotSupported', 'no');
  };
  for (const names of [
    ['a', 'b'],
    ['c', 'd'],
  ]) {
    await put(...names);
    await Promise.all(names.map((key) => mover.delete(key)));
  }
  expect(await keys()).toEqual([]);
  expect([spy.count('deleteMany'), spy.count('delete')]).toEqual([1, 4]);
});

test('more deletes than a batch takes', async () => {
  const names = Array.from({ length: 2500 }, (_, at) => `k${at}`);
  await put(...names);
  await Promise.all(names.map((key) => mover.delete(key)));
  expect(await keys()).toEqual([]);
  expect(spy.calls.map(({ args }) => (args[0] as string[]).length)).toEqual([1000, 1000, 500]);
});

test('moveTree moves everything below the prefix and nothing else', async () => {
  const names = Array.from({ length: 1200 }, (_, at) => `from/${at % 7}/${at}\n"é`);
  await put('from', 'from2/x', 'other', 'from/', ...names);
  expect(await mover.moveTree('from/', 'to/deep/')).toBe(1201);
  expect(await keys()).toEqual(
    ['from', 'from2/x', 'other', 'to/deep/', ...names.map((name) => name.replace('from/', 'to/deep/'))].sort(),
  );
  expect(spy.count('deleteMany')).toBe(2);
});

test('moveTree deletes nothing when a copy fails, and can be repeated', async () => {
  await put('a/1', 'a/2', 'a/3');
  spy.before = ({ operation, args }) => {
    if (operation === 'copy' && args[0] === 'a/2') throw new StoreError('Unavailable', 'no');
  };
  await expect(mover.moveTree('a/', 'b/')).rejects.toMatchObject({ kind: 'Unavailable' });
  expect(await keys()).toEqual(['a/1', 'a/2', 'a/3', 'b/1', 'b/3']);
  spy.before = () => {};
  await mover.moveTree('a/', 'b/');
  expect(await keys()).toEqual(['b/1', 'b/2', 'b/3']);
});

test('moveTree takes new versions along, leaves what vanished and what came later', async () => {
  await put('a/1', 'a/2', 'a/3');
  let changes: Promise<void> | undefined;
  const change = async () => {
    await memory.put('a/2', { sizeBytes: 3, open: () => Buffer.from('new') }, { attributes: PLAIN });
    await memory.delete('a/3');
    await put('a/4');
  };
  spy.before = ({ operation }) => {
    if (operation !== 'copy') return;
    changes ??= change();
    return changes;
  };
  expect(await mover.moveTree('a/', 'b/')).toBe(2);
  expect(await keys()).toEqual(['a/4', 'b/1', 'b/2']);
  expect((await memory.head('b/2')).sizeBytes).toBe(3);
});

test('a spool gives back what it was given, in order', async () => {
  const spool = await Spool.create(directory);
  const items = Array.from({ length: 5000 }, (_, at) => `${at} – ${'ü'.repeat(at % 100)}\n`);
  await spool.append(items.slice(0, 3000));
  await spool.append(items.slice(3000));
  const batches: string[][] = [];
  for await (const batch of spool.batches(1000)) batches.push(batch);
  expect(batches.map((batch) => batch.length)).toEqual([1000, 1000, 1000, 1000, 1000]);
  expect(batches.flat()).toEqual(items);
  await spool.close();
});
