import { appendFile, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/log.ts';
import { StoreError } from '../../src/store/contract.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { Mover, TreeMove } from '../../src/transfer/contract.ts';
import { createMover } from '../../src/transfer/move.ts';
import { type MoveEntry, MoveList } from '../../src/transfer/move-list.ts';
import { PLAIN, replacing, type Spy, spyOn } from './support.ts';

let directory: string;
let memory: MemoryStore;
let spy: Spy;
let mover: Mover;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tsfs-move-test-'));
  memory = new MemoryStore();
  spy = spyOn(memory);
  mover = createMover({ store: spy.store, log: silentLogger, listDirectory: directory });
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
  mover = createMover({ store: counted.store, log: silentLogger, listDirectory: directory });
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
  mover = createMover({ store, log: silentLogger, listDirectory: directory });
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

function treeMove(fromPrefix: string, toPrefix: string, keepsMarker = false): TreeMove {
  return { fromPrefix, toPrefix, markerKey: fromPrefix, keepsMarker, list: 'move-1' };
}

async function moveTree(move: TreeMove): Promise<number> {
  const count = await mover.copyTree(move);
  await mover.removeTree(move, { checked: false });
  await mover.forgetTree(move);
  return count;
}

test('a tree: everything below the prefix and nothing else', async () => {
  const names = Array.from({ length: 1200 }, (_, at) => `from/${at % 7}/${at}\n"é`);
  await put('from', 'from2/x', 'other', 'from/', ...names);
  expect(await moveTree(treeMove('from/', 'to/deep/'))).toBe(1201);
  expect(await keys()).toEqual(
    ['from', 'from2/x', 'other', 'to/deep/', ...names.map((name) => name.replace('from/', 'to/deep/'))].sort(),
  );
  expect(spy.count('deleteMany')).toBe(2);
});

test('lists that crashes left are removed, and nothing else', async () => {
  for (const name of ['move-1', 'move-2', 'index.db']) await appendFile(join(directory, name), '');
  await mover.forgetOthers(new Set(['move-2']));
  expect((await readdir(directory)).sort()).toEqual(['index.db', 'move-2']);
  for (const name of ['move-2', 'index.db']) await rm(join(directory, name));
});

test('a marker elsewhere becomes that of the new prefix', async () => {
  await put('a_$folder$', 'a/1');
  await moveTree({ ...treeMove('a/', 'b/'), markerKey: 'a_$folder$' });
  expect(await keys()).toEqual(['b/', 'b/1']);
});

test('a marker that is in the way is replaced when all the rest is copied', async () => {
  const attributes = { metadata: { mode: 'new' } };
  await memory.put('a/', { sizeBytes: 0, open: () => new Uint8Array(0) }, { attributes });
  await put('a/1', 'b/');
  const move = treeMove('a/', 'b/', true);
  expect(await mover.copyTree(move)).toBe(2);
  expect((await memory.head('b/')).metadata).toEqual({});
  await mover.removeTree(move, { checked: false });
  expect(await keys()).toEqual(['b/', 'b/1']);
  expect((await memory.head('b/')).metadata).toEqual({ mode: 'new' });
  await mover.forgetTree(move);
});

test('a tree whose copies fail is taken back: copies go, and nothing else', async () => {
  await put('a/1', 'a/2', 'a/3', 'a/4', 'a/5');
  spy.before = ({ operation, args }) => {
    if (operation === 'copy' && args[0] === 'a/2') throw new StoreError('Unavailable', 'no');
  };
  const move = treeMove('a/', 'b/');
  await expect(mover.copyTree(move)).rejects.toMatchObject({ kind: 'Unavailable' });
  expect(await keys()).toEqual(['a/1', 'a/2', 'a/3', 'a/4', 'a/5', 'b/1', 'b/3', 'b/4', 'b/5']);
  // Somebody else's: another content, another metadata, and what has no original any more.
  await memory.put('b/3', { sizeBytes: 3, open: () => Buffer.from('new') }, { attributes: PLAIN });
  const bytes = Buffer.from('a/4');
  await memory.put('b/4', { sizeBytes: 3, open: () => bytes }, { attributes: { metadata: { x: '1' } } });
  await memory.delete('a/5');
  spy.before = () => {};
  // As another process would.
  mover = createMover({ store: spy.store, log: silentLogger, listDirectory: directory });
  await mover.undoTree(move);
  expect(await keys()).toEqual(['a/1', 'a/2', 'a/3', 'a/4', 'b/3', 'b/4', 'b/5']);
  await mover.forgetTree(move);
});

test('a tree can be copied again after a crash', async () => {
  await put('a/1', 'a/2');
  const move = treeMove('a/', 'b/');
  await mover.copyTree(move);
  await memory.put('a/2', { sizeBytes: 3, open: () => Buffer.from('new') }, { attributes: PLAIN });
  await put('a/3');
  expect(await moveTree(move)).toBe(3);
  expect(await keys()).toEqual(['b/1', 'b/2', 'b/3']);
  expect((await memory.head('b/2')).sizeBytes).toBe(3);
});

test('originals that were written again stay, after a crash', async () => {
  await put('a/1', 'a/2');
  const move = treeMove('a/', 'b/');
  await mover.copyTree(move);
  await memory.put('a/2', { sizeBytes: 3, open: () => Buffer.from('new') }, { attributes: PLAIN });
  await put('a/3');
  await mover.removeTree(move, { checked: true });
  expect(await keys()).toEqual(['a/2', 'a/3', 'b/1', 'b/2']);
  await mover.forgetTree(move);
});

test('a tree takes new versions along, leaves what vanished and what came later', async () => {
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
  expect(await moveTree(treeMove('a/', 'b/'))).toBe(2);
  expect(await keys()).toEqual(['a/4', 'b/1', 'b/2']);
  expect((await memory.head('b/2')).sizeBytes).toBe(3);
});

test('one version of a key is deleted, and no other', async () => {
  await put('a');
  const { etag } = await memory.head('a');
  await mover.deleteVersion('a', 'another');
  expect(await keys()).toEqual(['a']);
  await mover.deleteVersion('a', etag);
  await mover.deleteVersion('a', etag);
  expect(await keys()).toEqual([]);
});

describe('the list of a move', () => {
  const entries: MoveEntry[] = Array.from({ length: 5000 }, (_, at) => ({
    from: `a/${at} – ${'ü'.repeat(at % 100)}\n`,
    to: `b/${at}`,
    etag: 'e',
    sizeBytes: at,
    copyEtag: at % 2 === 0 ? 'f' : undefined,
  }));

  async function readAll(list: MoveList): Promise<MoveEntry[][]> {
    const batches: MoveEntry[][] = [];
    for await (const batch of list.batches(1000)) batches.push(batch);
    return batches;
  }

  afterEach(() => MoveList.remove(directory, 'list'));

  test('gives back what it was given, in order, to the next process too', async () => {
    const list = await MoveList.open(directory, 'list');
    await list.append(entries.slice(0, 3000));
    await list.sync();
    await list.close();
    const next = await MoveList.open(directory, 'list');
    await next.append(entries.slice(3000));
    const batches = await readAll(next);
    expect(batches.map((batch) => batch.length)).toEqual([1000, 1000, 1000, 1000, 1000]);
    expect(batches.flat()).toEqual(entries);
    await next.close();
  });

  test('forgets a line that a crash broke off', async () => {
    const list = await MoveList.open(directory, 'list');
    await list.append(entries.slice(0, 2));
    await list.close();
    await appendFile(join(directory, 'list'), `["torn${'x'.repeat(100_000)}`);
    const next = await MoveList.open(directory, 'list');
    await next.append(entries.slice(2, 3));
    expect((await readAll(next)).flat()).toEqual(entries.slice(0, 3));
    await next.close();
  });
});
