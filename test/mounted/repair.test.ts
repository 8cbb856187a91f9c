/** What is left of a mount that crashed: told, uploaded or exported without it; and what becomes of it when the index is lost. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, open, readdir, readFile, rename, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { expect, onTestFinished, test } from 'vitest';
import type { PendingList } from '../../src/mount/pending.ts';
import type { Effect } from '../support/faults.ts';
import { mountElsewhere, stateDirectory, tsfs } from './commands.ts';
import { eventually, startServer, type TestServer } from './harness.ts';

const ARRIVAL_LIMIT_MS = 40_000;
const QUIET_MS = 500;
const ONE_TRY = ['retries=0', 'connect_timeout=1', 'stat_cache_expire=600', 'negative_timeout=600'];
const MIB = 1024 * 1024;

/** All names are known, so that files can be made while the store is away. */
async function startListed(
  objects: Readonly<Record<string, Buffer>> = {},
  options: readonly string[] = [],
): Promise<TestServer> {
  const server = await startServer({ options: [...ONE_TRY, ...options] });
  await server.bucket.put('dir/old', 'old');
  for (const [key, content] of Object.entries(objects)) await server.bucket.put(key, content);
  await readdir(server.dir);
  await readdir(server.path('dir'));
  return server;
}

/** Closing a file fails while the store is away; it waits in the journal then. */
async function failToWrite(server: TestServer, name: string, content: string | Buffer): Promise<void> {
  await expect(writeFile(server.path(name), content)).rejects.toMatchObject({ code: 'EIO' });
}

async function failToChange(server: TestServer, name: string, offset: number, bytes: string): Promise<void> {
  const file = await open(server.path(name), 'r+');
  await file.write(bytes, offset);
  await expect(file.sync()).rejects.toMatchObject({ code: 'EIO' });
  await file.close().catch((error: NodeJS.ErrnoException) => expect(error.code).toBe('EIO'));
}

async function pendingOf(server: TestServer): Promise<PendingList> {
  const { output } = await tsfs(server, 'pending', '--json');
  return JSON.parse(output) as PendingList;
}

async function scratch(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'tsfs-repair-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  return directory;
}

test('pending changes are listed with and without a daemon, and recover uploads them', async () => {
  const server = await startListed();
  await server.proxy.refuse();
  await failToWrite(server, 'dir/a', 'content of a');
  await failToWrite(server, 'b', randomBytes(300_000));
  const refused = { kind: 'upload', path: 'dir/a', sizeBytes: 12, error: expect.stringContaining('ECONNREFUSED') };
  const other = { kind: 'upload', path: 'b', sizeBytes: 300_000 };
  const changes = expect.arrayContaining([expect.objectContaining(refused), expect.objectContaining(other)]);
  expect(await pendingOf(server)).toMatchObject({ count: 2, changes });
  await server.kill();
  expect(await pendingOf(server)).toMatchObject({ count: 2, changes });
  const inWords = expect.stringMatching(/upload +\/dir\/a \(12 B; since .*ECONNREFUSED/);
  expect(await tsfs(server, 'pending')).toMatchObject({ status: 1, output: inWords });
  const refusal = expect.stringContaining('Nothing listens at');
  expect(await tsfs(server, 'recover')).toMatchObject({ status: 1, notes: refusal });
  await server.proxy.accept();
  const done = expect.stringContaining('2 files uploaded.');
  expect(await tsfs(server, 'recover')).toMatchObject({ status: 0, output: done });
  expect(await server.bucket.text('dir/a')).toBe('content of a');
  expect((await server.bucket.bytes('b')).length).toBe(300_000);
  expect(await tsfs(server, 'pending')).toMatchObject({ status: 0, output: 'The bucket has everything.\n' });
});

test('export gives files as they are, and says which parts only the bucket has', async () => {
  const large = randomBytes(3 * MIB);
  const server = await startListed({ 'dir/large': large });
  // Its first part is cached then.
  const file = await open(server.path('dir/large'), 'r+');
  await file.read(Buffer.alloc(1000), 0, 1000, 0);
  await server.proxy.refuse();
  await file.write('CHANGED', 2 * MIB);
  await expect(file.sync()).rejects.toMatchObject({ code: 'EIO' });
  await failToWrite(server, 'a', 'content of a');
  await server.kill();
  await file.close().catch(() => undefined); // Its mount is gone.

  const away = join(await scratch(), 'away');
  const { status, output } = await tsfs(server, 'recover', '--export', away);
  expect(status).toBe(1);
  expect(output).toMatch(/^dir\/large: bytes .* are zeros here, as only the bucket has them$/m);
  expect(await readFile(join(away, 'a'), 'utf8')).toBe('content of a');
  expect((await readFile(join(away, 'dir/large'))).toString('latin1', 2 * MIB, 2 * MIB + 7)).toBe('CHANGED');

  await server.proxy.accept();
  const whole = join(await scratch(), 'whole');
  expect(await tsfs(server, 'recover', '--export', whole)).toMatchObject({ status: 0, output: expect.any(String) });
  large.write('CHANGED', 2 * MIB);
  expect((await readFile(join(whole, 'dir/large'))).equals(large)).toBe(true);
  const refusal = expect.stringContaining('is not empty');
  expect(await tsfs(server, 'recover', '--export', whole)).toMatchObject({ status: 1, notes: refusal });
  // A copy: all of it is pending still.
  expect((await pendingOf(server)).count).toBe(2);
});

test('one process at a time works on the state of a mount', async () => {
  const server = await startListed();
  const mounted = expect.stringContaining('unmount it first');
  expect(await tsfs(server, 'recover')).toMatchObject({ status: 1, notes: mounted });
  expect(await tsfs(server, 'fsck')).toMatchObject({ status: 8, notes: mounted });
  expect(await mountElsewhere(server)).toMatchObject({ status: 1, notes: mounted });
  await server.kill();
  expect(await tsfs(server, 'recover')).toMatchObject({ status: 0 });
});

/** Makes the index unreadable in the middle. */
async function damage(index: string): Promise<void> {
  const db = new Database(index);
  // All of it is in the file itself then.
  db.pragma('wal_checkpoint(TRUNCATE)');
  db.close();
  const file = await open(index, 'r+');
  await file.write(randomBytes(16_384), 0, 16_384, 8192);
  await file.close();
}

test('a damaged index is made anew, and what was pending arrives', async () => {
  const large = randomBytes(3 * MIB);
  const server = await startListed({ 'dir/cached': large, 'dir/half': large });
  await readFile(server.path('dir/cached'));
  // Its first part is cached then, and its metadata known.
  await (await open(server.path('dir/half'))).close();
  await server.proxy.refuse();
  await failToWrite(server, 'dir/new', 'content');
  await failToChange(server, 'dir/cached', 2 * MIB, 'CHANGED');
  await failToChange(server, 'dir/half', 2 * MIB, 'CHANGED');
  await server.kill();
  // Somebody replaced it meanwhile.
  await server.bucket.put('dir/half', 'a newer one');
  await damage(join(await stateDirectory(server), 'index.db'));
  await server.proxy.accept();
  await server.mount();
  expect(server.log).toContain('the index is made anew');
  await eventually(async () => expect(await server.bucket.text('dir/new')).toBe('content'), ARRIVAL_LIMIT_MS);
  large.write('CHANGED', 2 * MIB);
  await eventually(
    async () => expect((await server.bucket.bytes('dir/cached')).equals(large)).toBe(true),
    ARRIVAL_LIMIT_MS,
  );
  expect(await readFile(server.path('dir/half'), 'utf8')).toBe('a newer one');
  expect(server.log).toContain('the version that it changes was replaced in the bucket');
  const kept = expect.objectContaining({ kind: 'kept', path: expect.stringMatching(/dir_half$/) });
  expect(await pendingOf(server)).toMatchObject({ count: 1, changes: [kept] });
});

test('an index that turns out to be damaged while mounted: the next worker begins with a new one', async () => {
  const server = await startListed();
  const file = await open(server.path('dir/old'));
  await damageInUse(join(await stateDirectory(server), 'index.db'));
  let asked = 0;
  await eventually(async () => {
    asked += 1;
    // What is read may be in memory, but a new name needs the index; EIO until the new worker is there.
    const made = writeFile(server.path(`dir/made ${asked}`), '').then(
      () => 'made',
      (error: NodeJS.ErrnoException) => error.code,
    );
    expect(await made).toMatch(/^(EIO|made)$/);
    expect(server.log).toContain('the index is made anew');
    expect(await readFile(server.path('dir/old'), 'utf8')).toBe('old');
  }, ARRIVAL_LIMIT_MS);
  await writeFile(server.path('dir/new'), 'content');
  expect(await server.bucket.text('dir/new')).toBe('content');
  // Its node went with the index.
  await file.close();
});

/** Destroys the root page of the nodes, and has whoever keeps it in memory read it again. */
async function damageInUse(index: string): Promise<void> {
  const db = new Database(index);
  const [page] = db.prepare("SELECT rootpage FROM sqlite_schema WHERE name = 'nodes'").pluck().all() as [number];
  const pageBytes = Number(db.pragma('page_size', { simple: true }));
  await eventually(async () => {
    const [{ busy }] = db.pragma('wal_checkpoint(TRUNCATE)') as [{ busy: number }];
    expect(busy).toBe(0);
    // What is committed beside this would be put over the damage.
    await sleep(QUIET_MS);
    expect((await stat(`${index}-wal`)).size).toBe(0);
  }, ARRIVAL_LIMIT_MS);
  const file = await open(index, 'r+');
  await file.write(randomBytes(pageBytes), 0, pageBytes, (page - 1) * pageBytes);
  db.exec("INSERT INTO facts VALUES ('test', '')");
  // Closed after the database: closing it first would drop the locks that SQLite has on the file.
  db.close();
  await file.close();
}

test('fsck finds damage of every kind, and repairs it', async () => {
  const objects = {
    'dir/cached': randomBytes(700_000),
    'dir/wrong': randomBytes(1000),
    'dir/gone': Buffer.from('gone'),
  };
  const server = await startListed(objects);
  for (const name of Object.keys(objects)) await readFile(server.path(name));
  await writeFile(server.path('written'), 'content');
  await server.umount();
  expect(await tsfs(server, 'fsck')).toMatchObject({
    status: 0,
    output: '',
    notes: expect.stringMatching(/: clean\.\n$/),
  });

  const state = await stateDirectory(server);
  await server.bucket.delete('dir/gone');
  await flipByte(await cacheFileOf(server.cacheDirectory, 700_000));
  await writeFile(join(state, 'staging/99-lost'), 'nobody knows');
  const db = new Database(join(state, 'index.db'));
  db.exec(`
    UPDATE nodes SET size_bytes = 7 WHERE name = 'wrong';
    UPDATE nodes SET dirty = 1 WHERE name = 'old';
    INSERT INTO nodes (parent, name, kind) VALUES (999999, 'orphan', 0);
    INSERT INTO stagings (node, file, base_size_bytes, created_at_ms) VALUES (888888, '888888-x', 0, 0);
    INSERT INTO staging_extents (node, start, end) VALUES (777777, 0, 10);
    UPDATE counters SET value = value + 5 WHERE name = 'nodes';
  `);
  db.close();

  const found = await tsfs(server, 'fsck');
  expect(found.status).toBe(4);
  for (const words of [
    /^index .*'orphan'/m,
    /^index .*node 888888/m,
    /^index .*node 777777/m,
    /^index .*number of names/m,
    /^journal .*99-lost.*lost\+found/m,
    /^journal .*\/dir\/old: .*nothing of the changes is staged/m,
    /^cache .*\/dir\/cached: 1 blocks .* damaged/m,
    /^bucket .*\/dir\/wrong: .*7 bytes/m,
    /^bucket .*\/dir\/gone: .*does not have it/m,
  ]) {
    expect(found.output).toMatch(words);
  }
  expect(found.output.trim().split('\n')).toHaveLength(9);
  expect(await tsfs(server, 'fsck', '--repair')).toMatchObject({ status: 1 });
  expect(await tsfs(server, 'fsck')).toMatchObject({ status: 0, output: expect.stringContaining('99-lost') });
  expect(await readFile(join(state, 'staging/lost+found/99-lost'), 'utf8')).toBe('nobody knows');

  await server.mount();
  expect((await readFile(server.path('dir/wrong'))).length).toBe(1000);
  expect((await readFile(server.path('dir/cached'))).equals(await server.bucket.bytes('dir/cached'))).toBe(true);
  expect((await readdir(server.path('dir'))).sort()).toEqual(['cached', 'old', 'wrong']);
});

test('fsck makes a damaged index anew', async () => {
  const server = await startListed();
  await server.umount();
  await damage(join(await stateDirectory(server), 'index.db'));
  const words = expect.stringMatching(/^index .*damaged/);
  expect(await tsfs(server, 'fsck')).toMatchObject({ status: 4, output: words });
  expect(await tsfs(server, 'fsck', '--repair')).toMatchObject({ status: 1, output: words });
  expect(await tsfs(server, 'fsck')).toMatchObject({ status: 0 });
});

test('what close acknowledged on this host reaches the bucket though the whole index is lost', async () => {
  const large = randomBytes(3 * MIB);
  const server = await startListed({ 'dir/large': large }, ['durability=local']);
  await readFile(server.path('dir/large'));
  const unavailable: Effect = { type: 'status', status: 500, code: 'InternalError' };
  const release = server.proxy.addFault({ effect: unavailable, operations: ['PUT'] });
  const expected: Record<string, Buffer> = { 'dir/old': Buffer.from('old') };
  for (let i = 0; i < 30; i += 1) {
    const content = randomBytes(1 + i * 5000);
    await writeFile(server.path('dir', `${i}`), content);
    if (i % 3 === 0) await unlink(server.path('dir', `${i}`));
    else if (i % 3 === 1) await rename(server.path('dir', `${i}`), server.path(`moved-${i}`));
    if (i % 3 > 0) expected[i % 3 === 1 ? `moved-${i}` : `dir/${i}`] = content;
  }
  const file = await open(server.path('dir/large'), 'r+');
  await file.write('CHANGED', 2 * MIB);
  await file.close();
  large.write('CHANGED', 2 * MIB);
  expected['dir/large'] = large;
  // Names are written down a moment after they change.
  await sleep(1000);
  await server.kill();
  for (const suffix of ['', '-wal', '-shm'])
    await rm(join(await stateDirectory(server), `index.db${suffix}`), { force: true });
  release();
  const { output } = await tsfs(server, 'recover');
  expect(output).toContain('The bucket has everything.');
  expect((await server.bucket.keys()).sort()).toEqual(Object.keys(expected).sort());
  for (const [key, content] of Object.entries(expected)) {
    expect((await server.bucket.bytes(key)).equals(content), key).toBe(true);
  }
});

test('after a crash under load recover brings everything to the bucket, and fsck finds no damage', async () => {
  const server = await startListed();
  const changes = ['a', 'b', 'c', 'd'].map((name) => change(server, name));
  await sleep(700);
  await server.kill();
  await Promise.all(changes);
  expect(await tsfs(server, 'recover')).toMatchObject({ status: 0 });
  // A cache file that was being made may be left: mounts, too, remove such.
  const { output } = await tsfs(server, 'fsck', '--repair');
  expect(output).toMatch(/^(cache .* belongs to nothing; .*\n)*$/);
  expect(await tsfs(server, 'fsck')).toMatchObject({ status: 0, output: '' });
});

/** Makes, changes, moves and deletes files until the mount is gone. */
async function change(server: TestServer, name: string): Promise<void> {
  const failure = async () => {
    for (let i = 0; ; i += 1) {
      const path = server.path(`${name}-${i % 5}`);
      await writeFile(path, randomBytes(1 + ((i * 7919) % 100_000)));
      if (i % 3 === 0) await rename(path, server.path('dir', `${name}-${i % 2}`));
      if (i % 4 === 1) await unlink(path);
    }
  };
  const { code } = (await failure().catch((error: unknown) => error)) as NodeJS.ErrnoException;
  // ENOENT: the mount was taken away between two calls.
  expect(['ENOTCONN', 'ECONNABORTED', 'EIO', 'ENOENT']).toContain(code);
}

async function cacheFileOf(directory: string, sizeBytes: number): Promise<string> {
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile() && (await stat(path)).size === sizeBytes) return path;
  }
  throw new Error(`no cache file of ${sizeBytes} bytes in ${directory}`);
}

async function flipByte(path: string): Promise<void> {
  const file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, 300_000);
  await file.write(Buffer.of((byte[0] ?? 0) ^ 1), 0, 1, 300_000);
  await file.close();
}
