import { open, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { ContentId } from '../../src/base/ids.ts';
import { BLOCK_BYTES, type BlockCache, type CacheFinding } from '../../src/cache/contract.ts';
import { blockOf, bytesOf, type CacheFixture, createFixture, pattern } from './support.ts';

let fixture: CacheFixture;

beforeEach(async () => {
  fixture = await createFixture();
});

afterEach(() => fixture.dispose());

/** Three contents of three blocks each, written by a process that has ended. */
async function fill(): Promise<ContentId[]> {
  const cache = await fixture.open();
  const ids = [fixture.allocate(), fixture.allocate(), fixture.allocate()];
  for (const id of ids) {
    const bytes = pattern(2 * BLOCK_BYTES + 5000, id);
    const content = await cache.open(id, bytes.length);
    for (const block of [0, 1, 2]) await content.put(block, blockOf(bytes, block));
    content.close();
  }
  await cache.close();
  return ids;
}

async function pathOf(id: ContentId): Promise<string> {
  const names = await readdir(fixture.directory, { recursive: true });
  return join(fixture.directory, names.find((name) => name.endsWith(`/${id}`)) as string);
}

async function look(cache: BlockCache, repair = false) {
  const findings: CacheFinding[] = [];
  const verdict = await cache.verify({ repair, onFinding: (finding) => findings.push(finding) });
  expect(verdict.findings).toBe(findings.length);
  return { verdict, findings };
}

/** Overwrites the file's bytes in place, as a disk might. */
async function damage(path: string, offset: number, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'r+');
  await file.write(bytes, 0, bytes.length, offset);
  await file.close();
}

test('a sound cache has no findings', async () => {
  await fill();
  const { verdict } = await look(await fixture.open({ tidy: false }));
  expect(verdict).toEqual({ contents: 3, blocks: 9, bytes: 3 * (2 * BLOCK_BYTES + 5000), findings: 0 });
});

test('flipped bits, zeros, a lost end and a lost file are found, told, and repaired only when asked', async () => {
  const [flipped, cut, gone] = (await fill()) as [ContentId, ContentId, ContentId];
  await damage(await pathOf(flipped), 10, Buffer.of(1));
  await damage(await pathOf(flipped), BLOCK_BYTES, Buffer.alloc(BLOCK_BYTES));
  await truncate(await pathOf(cut), 2 * BLOCK_BYTES + 1);
  await rm(await pathOf(gone));
  const expected: CacheFinding[] = [
    { kind: 'damaged', content: flipped, blocks: 2 },
    { kind: 'damaged', content: cut, blocks: 1 },
    { kind: 'vanished', content: gone, blocks: 3 },
  ];
  const looking = await fixture.open({ tidy: false });
  for (let round = 0; round < 2; round += 1) expect((await look(looking)).findings).toEqual(expected);
  expect(looking.usage().damagedBlocks).toBe(0);
  await looking.close();

  const repairing = await fixture.open();
  expect((await look(repairing, true)).findings).toEqual(expected);
  expect(repairing.usage().damagedBlocks).toBe(3);
  expect((await look(repairing)).findings).toEqual([]);
  const content = await repairing.open(flipped, 2 * BLOCK_BYTES + 5000);
  expect([0, 1, 2].map((block) => content.has(block))).toEqual([false, false, true]);
  expect(repairing.usage().bytes).toBe(8192 + 2 * BLOCK_BYTES);
});

test('a hole where the index says present, as a crash of the machine leaves it', async () => {
  const [id] = (await fill()) as [ContentId];
  const path = await pathOf(id);
  await truncate(path, 0);
  await truncate(path, 2 * BLOCK_BYTES + 5000);
  const cache = await fixture.open();
  const content = await cache.open(id, 2 * BLOCK_BYTES + 5000);
  expect(await content.slice(0, 2 * BLOCK_BYTES + 5000)).toBeUndefined();
  expect(content.has(0)).toBe(false);
  expect((await look(cache)).findings).toEqual([{ kind: 'damaged', content: id, blocks: 2 }]);
});

test('damage that comes while the process runs is found when the block is looked at again after an hour', async () => {
  const cache = await fixture.open();
  const id = fixture.allocate();
  const content = await cache.open(id, 5000);
  await content.put(0, pattern(5000));
  await damage(await pathOf(id), 4000, Buffer.of(255, 0, 255));
  fixture.clock.advance(3_600_001);
  expect(await content.slice(0, 5000)).toBeUndefined();
  expect(cache.usage().damagedBlocks).toBe(1);
  await content.put(0, pattern(5000));
  expect(await bytesOf(await content.slice(0, 5000))).toEqual(pattern(5000));
});

test('files that belong to nothing: told, removed when asked; a cache that is only looked at leaves them', async () => {
  await fill();
  const stray = join(fixture.directory, '00', '00', '999999');
  await writeFile(stray, 'stray');
  const cache = await fixture.open({ tidy: false });
  expect((await look(cache)).findings).toEqual([{ kind: 'stray', path: stray }]);
  expect((await look(cache, true)).findings).toEqual([{ kind: 'stray', path: stray }]);
  expect((await look(cache)).findings).toEqual([]);
});

test('rows that make no sense are told, and dropped when asked', async () => {
  const [id] = (await fill()) as [ContentId];
  const row = fixture.contents.get(id);
  if (row === undefined) throw new Error('the content has a row');
  fixture.contents.put({ ...row, checksums: row.checksums.subarray(1) });
  const cache = await fixture.open({ tidy: false });
  expect((await look(cache)).findings).toEqual([{ kind: 'nonsense', content: id }]);
  expect((await look(cache, true)).findings).toEqual([{ kind: 'nonsense', content: id }]);
  expect(fixture.contents.get(id)).toBeUndefined();
  expect((await look(cache)).findings).toEqual([]);
});

test('the signal ends it', async () => {
  await fill();
  const cache = await fixture.open();
  const stop = new AbortController();
  const reason = new Error('enough');
  stop.abort(reason);
  await expect(cache.verify({ repair: false, signal: stop.signal, onFinding: () => {} })).rejects.toBe(reason);
});

test('what is read and written meanwhile is no finding', async () => {
  const cache = await fixture.open();
  const ids = Array.from({ length: 20 }, () => fixture.allocate());
  const bytes = pattern(3 * BLOCK_BYTES);
  const writing = ids.map(async (id) => {
    const content = await cache.open(id, bytes.length);
    for (const block of [2, 0, 1]) await content.put(block, blockOf(bytes, block));
    content.close();
    if (id % 3 === 0) cache.remove(id);
  });
  const looks = [look(cache), look(cache, true)];
  await Promise.all(writing);
  for (const { findings } of await Promise.all(looks)) expect(findings).toEqual([]);
});
