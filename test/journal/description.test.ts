/** Staging files tell what they are when the index is lost. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type NodeId, ROOT_NODE_ID } from '../../src/base/ids.ts';
import { silentLogger } from '../../src/base/log.ts';
import type { Index, NodeFields } from '../../src/index/contract.ts';
import { openIndex } from '../../src/index/open.ts';
import type { Journal, Staging } from '../../src/journal/contract.ts';
import { openJournal } from '../../src/journal/journal.ts';

let root: string;
let runs: { index: Index; journal: Journal }[];
let index: Index;
let journal: Journal;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tsfs-description-'));
  runs = [];
  await start();
});
afterEach(async () => {
  for (const run of runs.reverse()) {
    await run.journal.close();
    await run.index.close();
  }
  await rm(root, { recursive: true });
});

/** Each run has an index of its own: that of the one before is lost. */
async function start(bootId = 'boot-1'): Promise<void> {
  index = openIndex({ path: join(root, `index-${runs.length}.db`), log: silentLogger });
  journal = openJournal({ directory: join(root, 'staging'), index, log: silentLogger, bootId });
  runs.push({ index, journal });
  await journal.recover();
}

function fields(change: Partial<NodeFields>): NodeFields {
  return {
    parent: ROOT_NODE_ID,
    name: 'name',
    kind: 'file',
    sizeBytes: 0,
    mode: 0o640,
    uid: 33,
    gid: undefined,
    mtime: { sec: 1, nsec: 2 },
    ctime: undefined,
    atime: undefined,
    etag: undefined,
    lastModifiedMs: undefined,
    marker: undefined,
    content: undefined,
    md5: undefined,
    complete: true,
    extras: undefined,
    target: undefined,
    validatedAtMs: 0,
    listedAtMs: 0,
    dirty: true,
    ...change,
  };
}

function insertFile(change: Partial<NodeFields> = {}): NodeId {
  const directory = index.nodes.insert(fields({ name: 'dir', kind: 'directory', dirty: false }));
  return index.nodes.insert(fields({ parent: directory.id, name: 'file', ...change })).id;
}

async function stage(node: NodeId, baseSizeBytes: number, offset: number, text: string): Promise<Staging> {
  const staging = await journal.stage(node, baseSizeBytes);
  await staging.write(offset, Buffer.from(text));
  return staging;
}

async function lostAndFound(): Promise<string[]> {
  return readdir(join(root, 'staging/lost+found')).catch(() => []);
}

async function descriptions(): Promise<string[]> {
  return (await readdir(join(root, 'staging'))).filter((name) => name.endsWith('.json'));
}

test('a new file comes back with its path, attributes and content', async () => {
  const staging = await stage(insertFile(), 0, 0, 'content');
  await staging.sync();
  await start();
  const [stray, ...others] = journal.strays();
  expect(others).toEqual([]);
  expect(stray).toMatchObject({ path: 'dir/file', isComplete: true, sizeBytes: 7, node: { mode: 0o640, uid: 33 } });
  const adopted = await journal.adopt(stray as NonNullable<typeof stray>, 99 as NodeId);
  expect(adopted).toMatchObject({ node: 99, sizeBytes: 7, isComplete: true });
  expect(await readFile(adopted.path, 'utf8')).toBe('content');
  expect(journal.strays()).toEqual([]);
});

test('an empty new file comes back too', async () => {
  const staging = await journal.stage(insertFile(), 0);
  await staging.sync();
  await start();
  expect(journal.strays()).toMatchObject([{ path: 'dir/file', sizeBytes: 0 }]);
});

test('a change in an old version comes back with what it is laid over', async () => {
  const staging = await stage(insertFile({ etag: 'version', sizeBytes: 1000 }), 1000, 500, 'changed');
  await staging.sync();
  await new Promise((resolve) => setTimeout(resolve, 30));
  await journal.noteFailure(staging.node, 'away');
  await start();
  const expected = { isComplete: false, baseSizeBytes: 1000, present: [{ start: 500, end: 507 }] };
  expect(journal.strays()).toMatchObject([{ ...expected, node: { etag: 'version', sizeBytes: 1000 } }]);
});

test('a change that nobody described is kept aside, with its name', async () => {
  const staging = await stage(insertFile({ etag: 'version', sizeBytes: 1000 }), 1000, 500, 'changed');
  await journal.noteFailure(staging.node, 'away');
  await staging.write(100, Buffer.from('unseen'));
  await start();
  expect(journal.strays()).toEqual([]);
  const names = await lostAndFound();
  expect(names).toEqual([expect.stringMatching(/-dir_file$/), expect.stringMatching(/-dir_file\.json$/)]);
});

test('the description follows a rename, and goes with the name', async () => {
  const node = insertFile();
  await stage(node, 0, 0, 'content');
  index.nodes.move(node, ROOT_NODE_ID, 'moved');
  await journal.noteFailure(node, 'away');
  expect(await descriptions()).toHaveLength(1);
  await start();
  expect(journal.strays()).toMatchObject([{ path: 'moved' }]);

  const [first] = runs as [(typeof runs)[number]];
  first.index.nodes.detach(node);
  await first.journal.noteFailure(node, 'unlinked');
  expect(await descriptions()).toEqual([]);
});

test('what the bucket has is not brought back', async () => {
  const node = insertFile();
  const staging = await stage(node, 0, 0, 'content');
  await new Promise((resolve) => setTimeout(resolve, 30));
  staging.noteUploaded(staging.version);
  index.nodes.update(node, { dirty: false, etag: 'version' });
  await staging.sync();
  await start();
  expect(journal.strays()).toEqual([]);
  expect(await lostAndFound()).toEqual([]);
  expect(await descriptions()).toEqual([]);
});

test('after a restart of the machine only what was synced is believed', async () => {
  const synced = await stage(insertFile({ etag: 'version', sizeBytes: 1000 }), 1000, 500, 'changed');
  await synced.sync();
  await synced.write(900, Buffer.from('later'));
  const other = index.nodes.insert(fields({ name: 'other' }));
  await stage(other.id, 0, 0, 'not synced');
  await journal.noteFailure(other.id, 'away');
  await start('boot-2');
  expect(journal.strays()).toMatchObject([{ path: 'dir/file', present: [{ start: 500, end: 507 }] }]);
  expect(await lostAndFound()).toEqual([expect.stringMatching(/-other$/), expect.stringMatching(/-other\.json$/)]);
});

test('a file that is settled leaves nothing', async () => {
  const node = insertFile();
  const staging = await stage(node, 0, 0, 'content');
  await staging.sync();
  expect(await descriptions()).toHaveLength(1);
  await journal.discard(node);
  expect(await readdir(join(root, 'staging'))).toEqual([]);
});
