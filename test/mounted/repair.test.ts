/** What is left of a mount that crashed: told, uploaded or exported without it; and what becomes of it when the index is lost. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, open, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { expect, onTestFinished, test } from 'vitest';
import { markDamaged } from '../../src/index/damage.ts';
import type { PendingList } from '../../src/mount/pending.ts';
import { stateDirectory, tsfs } from './commands.ts';
import { eventually, startServer, type TestServer } from './harness.ts';

const ARRIVAL_LIMIT_MS = 40_000;
const ONE_TRY = ['retries=0', 'connect_timeout=1', 'stat_cache_expire=600'];
const MIB = 1024 * 1024;

/** All names are known, so that files can be made while the store is away. */
async function startListed(objects: Readonly<Record<string, Buffer>> = {}): Promise<TestServer> {
  const server = await startServer({ options: ONE_TRY });
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
  await server.kill();
  expect(await tsfs(server, 'recover')).toMatchObject({ status: 0 });
});

const DAMAGES: Readonly<Record<string, (index: string) => Promise<void> | void>> = {
  'cut short': (index) => truncate(index, 10_000),
  'cut to nothing': (index) => truncate(index, 0),
  'no database': (index) => writeFile(index, randomBytes(50_000)),
  'garbage in the middle': async (index) => {
    const file = await open(index, 'r+');
    await file.write(randomBytes(16_384), 0, 16_384, 8192);
    await file.close();
  },
  'a newer format': (index) => setFormat(index, 999),
  'a migration that stopped half-way': (index) => setFormat(index, 1),
};

/** All of it is in the file itself then. */
function mergeLog(index: string): void {
  const db = new Database(index);
  db.pragma('wal_checkpoint(TRUNCATE)');
  db.close();
}

function setFormat(index: string, version: number): void {
  const db = new Database(index);
  db.pragma(`user_version = ${version}`);
  db.close();
}

test.for(Object.entries(DAMAGES))('index %s: made anew, and what was pending arrives', async ([, damage]) => {
  const large = randomBytes(MIB);
  const server = await startListed({ 'dir/large': large });
  for (const name of ['dir/large', 'dir/old']) await readFile(server.path(name));
  await server.proxy.refuse();
  await failToWrite(server, 'dir/new', 'content');
  await failToChange(server, 'dir/large', 500_000, 'CHANGED');
  await failToChange(server, 'dir/old', 0, 'N');
  await server.kill();
  // Somebody replaced it meanwhile.
  await server.bucket.put('dir/old', 'a newer one');
  const state = await stateDirectory(server);
  const index = join(state, 'index.db');
  mergeLog(index);
  await damage(index);
  await server.proxy.accept();
  await server.mount();
  expect(server.log).toContain('the index is made anew');
  await eventually(async () => expect(await server.bucket.text('dir/new')).toBe('content'), ARRIVAL_LIMIT_MS);
  large.write('CHANGED', 500_000);
  await eventually(
    async () => expect((await server.bucket.bytes('dir/large')).equals(large)).toBe(true),
    ARRIVAL_LIMIT_MS,
  );
  expect(await readFile(server.path('dir/old'), 'utf8')).toBe('a newer one');
  expect(server.log).toContain('the version that it changes was replaced in the bucket');
  const kept = expect.objectContaining({ kind: 'kept', path: expect.stringMatching(/dir_old$/) });
  expect(await pendingOf(server)).toMatchObject({ count: 1, changes: [kept] });
  await server.umount();
});

test('an index found damaged while mounted: the next worker begins with a new one', async () => {
  const server = await startListed();
  const file = await open(server.path('dir/old'));
  markDamaged(join(await stateDirectory(server), 'index.db'));
  process.kill((await server.workerPid()) as number, 'SIGKILL');
  await writeFile(server.path('dir/new'), 'content');
  expect(await server.bucket.text('dir/new')).toBe('content');
  expect(await readFile(server.path('dir/old'), 'utf8')).toBe('old');
  expect(server.log).toContain('the index is made anew');
  // Its node went with the index.
  await file.close();
});
