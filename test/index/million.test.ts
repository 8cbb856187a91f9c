/** A million rows: memory must stay flat. Times are told, not tested. */
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FIRST_NODE_ID, type NodeId, ROOT_NODE_ID } from '../../src/base/ids.ts';
import { silentLogger } from '../../src/base/log.ts';
import { INDEX_BATCH, type Index, type ListedName } from '../../src/index/contract.ts';
import { openIndex } from '../../src/index/open.ts';

const DIRECTORIES = 100;
const FILES_PER_DIRECTORY = 10_000;
const LOOKUPS = 20_000;

/** Room for the page cache (16 MiB), the checkpoint thread and garbage, but not for a million rows. */
const MAX_GROWTH_BYTES = 160 * 2 ** 20;

const say = (text: string) => process.stdout.write(`  ${text}\n`);
const elapsedMs = (since: number) => performance.now() - since;

function page(from: number): ListedName[] {
  return Array.from({ length: INDEX_BATCH }, (_, i) => ({
    kind: 'file',
    name: `IMG_${String(from + i).padStart(6, '0')}.jpg`,
    sizeBytes: 40_000 + i,
    etag: `d41d8cd98f00b204e9800998ecf8${String(i).padStart(4, '0')}`,
    lastModifiedMs: 1_700_000_000_000 + from + i,
  }));
}

async function fill(index: Index): Promise<void> {
  const directories = Array.from({ length: DIRECTORIES }, (_, i) => ({ kind: 'directory' as const, name: `d${i}` }));
  index.nodes.applyListing(ROOT_NODE_ID, directories, 1);
  for (const { name } of directories) {
    const parent = index.nodes.child(ROOT_NODE_ID, name)?.id as NodeId;
    for (let from = 0; from < FILES_PER_DIRECTORY; from += INDEX_BATCH) index.nodes.applyListing(parent, page(from), 1);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function lookUp(index: Index): void {
  const parents = index.nodes.children(ROOT_NODE_ID, 0, DIRECTORIES).map((row) => row.id);
  for (let i = 0; i < LOOKUPS; i += 1) {
    const number = (i * 7919) % FILES_PER_DIRECTORY;
    const parent = parents[(i * 31) % DIRECTORIES] as NodeId;
    const row = index.nodes.child(parent, `IMG_${String(number).padStart(6, '0')}.jpg`);
    expect(row?.sizeBytes).toBe(40_000 + (number % INDEX_BATCH));
  }
}

test('a million rows', async () => {
  const root = await mkdtemp(join(tmpdir(), 'tsfs-million-'));
  const path = join(root, 'index.db');
  try {
    const before = process.memoryUsage.rss();
    let start = performance.now();
    let index = openIndex({ path, log: silentLogger });
    await fill(index);
    say(`inserted a million rows in ${(elapsedMs(start) / 1000).toFixed(1)} s`);
    say(`write-ahead log ${((await stat(`${path}-wal`)).size / 2 ** 20).toFixed(0)} MiB`);
    await index.close();

    start = performance.now();
    index = openIndex({ path, log: silentLogger });
    expect(index.nodes.count()).toBe(1 + DIRECTORIES + DIRECTORIES * FILES_PER_DIRECTORY);
    say(`opened and counted in ${elapsedMs(start).toFixed(0)} ms`);

    start = performance.now();
    lookUp(index);
    say(`${((elapsedMs(start) * 1000) / LOOKUPS).toFixed(1)} µs for each lookup by name`);

    start = performance.now();
    expect(index.nodes.applyListing(FIRST_NODE_ID as NodeId, page(0), 2)).toEqual({
      added: 0,
      questioned: [],
      replacements: [],
    });
    say(`${elapsedMs(start).toFixed(1)} ms to revalidate a page of ${INDEX_BATCH}`);
    await index.close();
    const growthBytes = process.memoryUsage.rss() - before;
    say(
      `memory grew by ${(growthBytes / 2 ** 20).toFixed(0)} MiB, database ${((await stat(path)).size / 2 ** 20).toFixed(0)} MiB`,
    );
    expect(growthBytes).toBeLessThan(MAX_GROWTH_BYTES);
  } finally {
    await rm(root, { recursive: true });
  }
}, 120_000);
