import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ContentId, FIRST_NODE_ID, type NodeId, ROOT_NODE_ID } from '../../src/base/ids.ts';
import { silentLogger } from '../../src/base/log.ts';
import { type Index, IndexError, type NodeFields } from '../../src/index/contract.ts';
import { openIndex } from '../../src/index/open.ts';
import { LOG_RESERVE_BYTES } from '../../src/index/reserve.ts';
import { MIGRATIONS, migrate } from '../../src/index/schema.ts';

let root: string;
let path: string;
let index: Index;

function open(): Index {
  return openIndex({ path, log: silentLogger });
}

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tsfs-index-'));
  path = join(root, 'state', 'index.db');
  index = open();
});

afterEach(async () => {
  await index.close();
  await rm(root, { recursive: true });
});

const FILE: NodeFields = {
  parent: ROOT_NODE_ID,
  name: 'file',
  kind: 'file',
  sizeBytes: 2 ** 42,
  mode: 0o640,
  uid: 33,
  gid: 0,
  mtime: { sec: -5, nsec: 999_999_999 },
  ctime: { sec: 1_700_000_000, nsec: 1 },
  atime: undefined,
  etag: 'abc',
  lastModifiedMs: 1_700_000_000_123,
  marker: undefined,
  content: 7 as ContentId,
  md5: undefined,
  complete: true,
  extras: { headers: { contentType: 'image/png' }, metadata: { a: 'ü' }, xattrs: { 'user.x': 'AA==' } },
  target: undefined,
  validatedAtMs: 1_700_000_000_456,
  listedAtMs: 0,
  dirty: true,
};

function add(name: string, change: Partial<NodeFields> = {}): NodeId {
  return index.nodes.insert({ ...FILE, name, ...change }).id;
}

async function reopen(): Promise<void> {
  await index.close();
  index = open();
}

describe('nodes', () => {
  test('the root is there from the start, other ids begin where the kernel allows', () => {
    expect(index.nodes.get(ROOT_NODE_ID)).toMatchObject({ kind: 'directory', name: '', parent: undefined });
    expect(add('a')).toBe(FIRST_NODE_ID);
    expect(index.nodes.detached(10)).toEqual([]);
  });

  test('a row comes back as it went in, also after reopening', async () => {
    const row = index.nodes.insert(FILE);
    expect(index.nodes.get(row.id)).toEqual(row);
    await reopen();
    expect(index.nodes.child(ROOT_NODE_ID, 'file')).toEqual({ ...FILE, id: row.id });
    expect(index.nodes.count()).toBe(2);
  });

  test('update changes what it names; another ETag forgets Last-Modified', () => {
    const id = add('a');
    index.nodes.update(id, { mode: undefined, dirty: false });
    expect(index.nodes.get(id)).toMatchObject({ mode: undefined, dirty: false, lastModifiedMs: 1_700_000_000_123 });
    index.nodes.update(id, { etag: 'new' });
    expect(index.nodes.get(id)).toMatchObject({ etag: 'new', lastModifiedMs: undefined });
    index.nodes.update(id, { etag: 'newer', lastModifiedMs: 5 });
    expect(index.nodes.get(id)).toMatchObject({ etag: 'newer', lastModifiedMs: 5 });
  });

  test('a name is taken once, and free again after detach or move', () => {
    const id = add('a');
    expect(() => add('a')).toThrow('UNIQUE');
    index.nodes.move(id, ROOT_NODE_ID, 'b');
    const other = add('a');
    index.nodes.detach(id);
    index.nodes.detach(other);
    expect(index.nodes.child(ROOT_NODE_ID, 'b')).toBeUndefined();
    expect(index.nodes.get(id)).toMatchObject({ parent: undefined, name: 'b' });
    expect(index.nodes.detached(10).map((row) => row.id)).toEqual([id, other]);
  });

  test('rows with local changes are found', () => {
    const id = add('a');
    add('b', { dirty: false });
    expect(index.nodes.dirty(0, 10).map((row) => row.id)).toEqual([id]);
    index.nodes.update(id, { dirty: false });
    expect(index.nodes.dirty(0, 10)).toEqual([]);
  });

  test('ids are not used again', () => {
    const id = add('a');
    index.nodes.remove(id);
    expect(add('a')).toBeGreaterThan(id);
  });

  test('children come in order of id, from where one left off', () => {
    const ids = ['c', 'a', 'b'].map((name) => add(name));
    add('below', { parent: ids[0] as NodeId });
    expect(index.nodes.children(ROOT_NODE_ID, 0, 2).map((row) => row.name)).toEqual(['c', 'a']);
    expect(index.nodes.children(ROOT_NODE_ID, ids[1] as number, 2).map((row) => row.name)).toEqual(['b']);
    expect(index.nodes.hasChildren(ids[0] as NodeId)).toBe(true);
    expect(index.nodes.hasChildren(ids[1] as NodeId)).toBe(false);
  });

  test('a tree is removed piece by piece, from below', () => {
    const top = add('top', { kind: 'directory' });
    const middle = add('middle', { parent: top, kind: 'directory' });
    for (let i = 0; i < 2500; i += 1) add(`f${i}`, { parent: i % 2 === 0 ? top : middle });
    let calls = 1;
    while (!index.nodes.remove(top)) {
      calls += 1;
      expect(index.nodes.get(top)?.parent).toBeUndefined();
    }
    expect(calls).toBe(3);
    expect(index.nodes.count()).toBe(1);
  });
});

describe('contents', () => {
  const content = (id: number, usedAtMs: number) => ({
    id: id as ContentId,
    sizeBytes: 600_000,
    checksums: Uint32Array.of(0, 0xdeadbeef, 1),
    presentBytes: 337_856,
    usedAtMs,
  });

  test('ids are new in each run, whatever was written', async () => {
    const first = index.contents.allocate();
    const second = index.contents.allocate();
    await reopen();
    expect(new Set([first, second, index.contents.allocate()]).size).toBe(3);
  });

  test('rows, their use and their sum', () => {
    for (const [id, usedAtMs] of [
      [1, 30],
      [2, 10],
      [3, 20],
    ] as const)
      index.contents.put(content(id, usedAtMs));
    expect(index.contents.get(1 as ContentId)).toEqual(content(1, 30));
    index.contents.touch(new Map([[2 as ContentId, 40]]));
    expect(index.contents.oldest(2).map((row) => row.id)).toEqual([3, 1]);
    index.contents.put({ ...content(3, 20), presentBytes: 1 });
    expect(index.contents.totalPresentBytes()).toBe(2 * 337_856 + 1);
    index.contents.delete([1 as ContentId]);
    expect(index.contents.get(1 as ContentId)).toBeUndefined();
    expect(index.contents.totalPresentBytes()).toBe(337_856 + 1);
    index.contents.deleteAll();
    expect(index.contents.totalPresentBytes()).toBe(0);
  });
});

describe('pending work', () => {
  const node = 20 as NodeId;

  test('extents merge as they grow', () => {
    index.pending.putExtent(node, { start: 10, end: 20 });
    index.pending.putExtent(node, { start: 30, end: 40 });
    index.pending.putExtent(node, { start: 10, end: 25 });
    expect(index.pending.extents(node)).toEqual([
      { start: 10, end: 25 },
      { start: 30, end: 40 },
    ]);
    index.pending.putExtent(node, { start: 10, end: 40 });
    expect(index.pending.extents(node)).toEqual([{ start: 10, end: 40 }]);
  });

  test('a staging row goes with its extents', () => {
    const durable = { baseSizeBytes: 5, present: [{ start: 0, end: 5 }] };
    const upload = { error: undefined, durable, expectedEtag: 'e', isExclusive: true };
    const row = { node, file: 'x', baseSizeBytes: 5, createdAtMs: 1, ...upload };
    index.pending.putStaging(row);
    index.pending.setExtents(node, [{ start: 0, end: 5 }]);
    expect(index.pending.getStaging(node)).toEqual(row);
    expect(index.pending.stagings(0, 10)).toEqual([row]);
    expect(index.pending.stagings(node, 10)).toEqual([]);
    index.pending.deleteStaging(node);
    expect(index.pending.extents(node)).toEqual([]);
    expect(index.pending.counts()).toEqual({ stagings: 0, intents: 0 });
  });
});

describe('the database as a whole', () => {
  test('transactions are all or nothing, and nest', () => {
    expect(() =>
      index.transaction(() => {
        add('outer');
        expect(() =>
          index.transaction(() => {
            add('inner');
            throw new Error('inner fails');
          }),
        ).toThrow('inner fails');
        expect(index.nodes.count()).toBe(2);
        throw new Error('outer fails');
      }),
    ).toThrow('outer fails');
    expect(index.nodes.count()).toBe(1);
    expect(index.transaction(() => add('a'))).toBeGreaterThan(0);
  });

  test('facts are kept', async () => {
    index.setFact('x', '1');
    index.setFact('x', '2');
    await reopen();
    expect(index.getFact('x')).toBe('2');
    expect(index.getFact('y')).toBeUndefined();
  });

  test('sync can be asked by many, again and again', async () => {
    for (let round = 0; round < 3; round += 1) {
      add(`f${round}`);
      await Promise.all([index.sync(), index.sync(), index.sync()]);
    }
    const pending = index.sync();
    await index.close();
    await pending;
  });

  test('the format of version 1 is what released versions read', async () => {
    const { createHash } = await import('node:crypto');
    const digest = createHash('sha256')
      .update(MIGRATIONS[0] as string)
      .digest('hex');
    expect(digest.slice(0, 16)).toBe('7958a518a91eaa12');
  });

  test('migrations run once, in order, and an interrupted one leaves nothing', () => {
    const db = new Database(':memory:');
    migrate(db, ['CREATE TABLE a (x)']);
    expect(() => migrate(db, ['CREATE TABLE a (x)', 'CREATE TABLE b (x); CREATE TABLE a (x)'])).toThrow(
      'already exists',
    );
    expect(db.pragma('user_version', { simple: true })).toBe(1);
    migrate(db, ['CREATE TABLE a (x)', 'CREATE TABLE b (x)']);
    expect(db.pragma('user_version', { simple: true })).toBe(2);
    expect(() => migrate(db, ['CREATE TABLE a (x)'])).toThrow(IndexError);
    db.close();
  });

  test('a newer format is refused, and left as it is', async () => {
    await index.close();
    const db = new Database(path);
    db.pragma('user_version = 999');
    db.close();
    expect(open).toThrow(expect.objectContaining({ name: 'IndexError', reason: 'newer' }));
    const again = new Database(path);
    again.pragma(`user_version = ${MIGRATIONS.length}`);
    again.close();
    index = open();
  });

  test('something that is no database is damaged', async () => {
    await index.close();
    const good = await readFile(path);
    await writeFile(path, Buffer.alloc(good.length, 'garbage'));
    expect(open).toThrow(expect.objectContaining({ name: 'IndexError', reason: 'damaged' }));
    await writeFile(path, good);
    index = open();
  });

  test('one process owns it, and lets go when it is killed', async () => {
    expect(open).toThrow(expect.objectContaining({ name: 'IndexError', reason: 'busy' }));
    await index.close();
    const script = new URL('./owner-child.ts', import.meta.url).pathname;
    const child = spawn(process.execPath, [script, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      await once(child.stdout, 'data');
      expect(open).toThrow(expect.objectContaining({ reason: 'busy', message: expect.stringContaining('in use') }));
    } finally {
      child.kill('SIGKILL');
      await once(child, 'close');
    }
    index = open();
    expect(index.nodes.child(ROOT_NODE_ID, 'from-child')).toBeDefined();
  }, 20_000);

  test('its files are private, also in a directory that is not', async () => {
    for (const suffix of ['', '-wal', '-shm', '.lock']) {
      expect((await stat(path + suffix)).mode & 0o777).toBe(0o600);
    }
  });

  test('the write-ahead log is cut back while it is written to', async () => {
    await index.close();
    const walLimitBytes = LOG_RESERVE_BYTES + 256 * 1024;
    index = openIndex({ path, log: silentLogger, walLimitBytes });
    let largest = 0;
    let wasCut = false;
    for (let i = 0; i < 3000 && !wasCut; i += 1) {
      index.transaction(() => {
        for (let j = 0; j < 50; j += 1) add(`f${i}-${j}`);
      });
      const { size } = await stat(`${path}-wal`);
      wasCut = size < largest;
      largest = Math.max(largest, size);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(largest).toBeGreaterThan(walLimitBytes);
    expect(wasCut).toBe(true);
    expect((await stat(`${path}-wal`)).size).toBeGreaterThanOrEqual(LOG_RESERVE_BYTES);
  }, 60_000);
});
