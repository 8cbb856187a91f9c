/** An index that cannot be used is set aside, and a new one takes its place. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, open, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type NodeId, ROOT_NODE_ID } from '../../src/base/ids.ts';
import { silentLogger } from '../../src/base/log.ts';
import { checkReferences, integrityOf } from '../../src/index/check.ts';
import type { Index, NodeFields } from '../../src/index/contract.ts';
import { markDamaged } from '../../src/index/damage.ts';
import { openIndex } from '../../src/index/open.ts';

let root: string;
let path: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tsfs-rebuild-'));
  path = join(root, 'index.db');
  const index = reopen();
  for (let i = 0; i < 300; i += 1) index.nodes.insert(fileNamed(`file-${i}`));
  index.setFact('answer', '42');
  index.pending.addIntent({ kind: 'delete', key: 'gone', etag: 'x' }, 1);
  await index.close();
});
afterEach(() => rm(root, { recursive: true }));

function reopen(): Index {
  return openIndex({ path, log: silentLogger, rebuild: true });
}

function fileNamed(name: string): NodeFields {
  const mtime = { sec: 1, nsec: 0 };
  const unknown = { mode: undefined, uid: undefined, gid: undefined, ctime: undefined, atime: undefined };
  const rest = { lastModifiedMs: undefined, marker: undefined, content: undefined, md5: undefined, target: undefined };
  return {
    ...unknown,
    ...rest,
    parent: ROOT_NODE_ID,
    name,
    kind: 'file',
    sizeBytes: 5,
    mtime,
    etag: 'e',
    complete: true,
    extras: undefined,
    validatedAtMs: 0,
    listedAtMs: 0,
    dirty: false,
  };
}

function setFormat(version: number): void {
  const db = new Database(path);
  db.pragma(`user_version = ${version}`);
  db.close();
}

const DAMAGES: Readonly<Record<string, () => Promise<void> | void>> = {
  'cut short': () => truncate(path, 10_000),
  'cut to nothing': () => truncate(path, 0),
  'no database': () => writeFile(path, randomBytes(50_000)),
  'garbage in the middle': async () => {
    const file = await open(path, 'r+');
    await file.write(randomBytes(16_384), 0, 16_384, 8192);
    await file.close();
  },
  'a newer format': () => setFormat(999),
  'a migration that stopped half-way': () => setFormat(1),
  'found damaged while in use': () => markDamaged(path),
};

test.for(Object.entries(DAMAGES))(
  '%s: a new one, whose ids mean nothing to who knows the old ones',
  async ([, damage]) => {
    await damage();
    const index = reopen();
    expect(index.nodes.count()).toBe(1);
    expect(index.nodes.insert(fileNamed('new')).id).toBeGreaterThan(1_000_000_000);
    expect(existsSync(`${path}.damaged`)).toBe(true);
    await index.close();
    const again = reopen();
    expect(again.nodes.count()).toBe(2);
    await again.close();
  },
);

test('what can still be read of facts and deletes is taken over', async () => {
  markDamaged(path);
  const index = reopen();
  expect(index.getFact('answer')).toBe('42');
  expect(index.pending.intents(0, 10)).toMatchObject([{ action: { kind: 'delete', key: 'gone' } }]);
  await index.close();
});

test('without leave to rebuild, damage is told and nothing is changed', async () => {
  await writeFile(path, 'garbage');
  expect(() => openIndex({ path, log: silentLogger })).toThrow(/damaged/);
  expect(existsSync(`${path}.damaged`)).toBe(false);
});

test('a sound index is what it was', async () => {
  const index = reopen();
  expect(index.nodes.get(300 as NodeId)).toMatchObject({ name: 'file-284' });
  await index.close();
  expect(integrityOf(path)).toEqual([]);
  expect(checkReferences(path, false)).toEqual([]);
});

test('references that lead nowhere are found, and mended', async () => {
  const db = new Database(path);
  db.exec(`
    INSERT INTO nodes (parent, name, kind) VALUES (999999, 'orphan', 0);
    INSERT INTO stagings (node, file, base_size_bytes, created_at_ms) SELECT id, 'kept', 0, 0 FROM nodes WHERE name = 'orphan';
    INSERT INTO stagings (node, file, base_size_bytes, created_at_ms) VALUES (888888, 'nobody', 0, 0);
    INSERT INTO staging_extents (node, start, end) VALUES (777777, 0, 10);
    INSERT INTO intents (action, created_at_ms) VALUES ('{"kind":"rename","node":666666}', 0);
    UPDATE nodes SET size_bytes = -1 WHERE name = 'file-7';
    UPDATE counters SET value = value + 5;
    UPDATE sqlite_sequence SET seq = 20 WHERE name = 'nodes';
  `);
  db.close();
  const found = checkReferences(path, false);
  expect(found.map(({ text }) => text)).toEqual([
    expect.stringContaining("'orphan'"),
    expect.stringContaining('node 888888'),
    expect.stringContaining('node 777777'),
    expect.stringContaining('node 666666'),
    expect.stringContaining("'file-7'"),
    expect.stringContaining('number of names'),
    expect.stringContaining('size of the cache'),
    expect.stringContaining('numbers that are in use'),
  ]);
  checkReferences(path, true);
  expect(checkReferences(path, false)).toEqual([]);
  const index = reopen();
  // The file itself tells what it is: it must not look like one that nobody needs.
  expect(index.pending.stagings(0, 10)).toEqual([]);
  await index.close();
});
