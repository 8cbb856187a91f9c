/** The wall clock is set, forwards and back by a day, while mounts are there and while they are not. */
import { execFile } from 'node:child_process';
import { mkdtemp, open, readdir, readFile, rm, stat, unlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { stateDirectory } from './commands.ts';
import { eventually, startServer, type TestServer } from './harness.ts';

const DAY_SECONDS = 86_400;
const EXPIRE_SECONDS = 1;
const LIMIT_MS = 20_000;

let directory: string;
let clock: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tsfs-clock-'));
  clock = join(directory, 'offset');
  const source = join(import.meta.dirname, 'moved-clock.c');
  const flags = ['-O1', '-Wall', '-Wextra', '-Werror', '-D_GNU_SOURCE', '-shared', '-fPIC'];
  await promisify(execFile)('gcc', [...flags, '-o', join(directory, 'clock.so'), source, '-ldl']);
});

afterAll(() => rm(directory, { recursive: true }));

/** In place: the processes have the file mapped. */
async function setClock(offsetSeconds: number): Promise<void> {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(BigInt(offsetSeconds));
  const file = await open(clock, 'r+').catch(() => open(clock, 'w'));
  await file.write(bytes, 0, 8, 0);
  await file.close();
}

async function start(): Promise<TestServer> {
  await setClock(0);
  const environment = { LD_PRELOAD: join(directory, 'clock.so'), TSFS_TEST_CLOCK: clock };
  return startServer({ environment, options: [`stat_cache_expire=${EXPIRE_SECONDS}`] });
}

/** Reads, writes, and what others change: all as on any other day. */
async function expectInOrder(server: TestServer, round: string): Promise<void> {
  const { bucket } = server;
  await writeFile(server.path(round), round);
  expect(await bucket.text(round)).toBe(round);
  await eventually(async () => expect(await readFile(server.path('known'), 'utf8')).not.toBe(''), LIMIT_MS);
  await bucket.put('known', `of ${round}`);
  await bucket.put(`new ${round}`, round);
  await bucket.put('gone', round);
  await eventually(async () => {
    expect(await readFile(server.path('known'), 'utf8')).toBe(`of ${round}`);
    expect(await readFile(server.path('gone'), 'utf8')).toBe(round);
    expect(await readdir(server.dir)).toEqual(expect.arrayContaining([`new ${round}`, round]));
  }, LIMIT_MS);
  await bucket.delete('gone');
  await eventually(async () => {
    await expect(stat(server.path('gone'))).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await readdir(server.dir)).not.toContain('gone');
  }, LIMIT_MS);
  await unlink(server.path(`new ${round}`));
  await bucket.put(`new ${round}`, 'again');
  await eventually(async () => expect(await readFile(server.path(`new ${round}`), 'utf8')).toBe('again'), LIMIT_MS);
}

test('what others change is seen, whatever day it is', async () => {
  const server = await start();
  await server.bucket.put('known', 'content');
  await expectInOrder(server, 'today');
  for (const [offset, round] of [
    [DAY_SECONDS, 'tomorrow'],
    [-DAY_SECONDS, 'yesterday'],
  ] as const) {
    await setClock(offset);
    await expectInOrder(server, round);
  }
  expect(server.log).toContain('the clock of this host was set back');
  await server.umount();
});

/** As if the kernel had had the clock of the processes. */
async function moveFileTimes(server: TestServer): Promise<void> {
  const state = await stateDirectory(server);
  for (const name of await readdir(state)) {
    const { mtimeMs } = await stat(join(state, name));
    const moved = new Date(mtimeMs + DAY_SECONDS * 1000);
    await utimes(join(state, name), moved, moved);
  }
}

test('the same, where it is set while nothing is mounted', async () => {
  const server = await start();
  await server.bucket.put('known', 'content');
  await setClock(DAY_SECONDS);
  await expectInOrder(server, 'tomorrow');
  for (const end of ['umount', 'kill'] as const) {
    await server[end]();
    await moveFileTimes(server);
    await server.bucket.put('known', `after ${end}`);
    await setClock(0);
    await server.mount();
    // Nobody knows how long ago it was looked at.
    expect(await readFile(server.path('known'), 'utf8')).toBe(`after ${end}`);
    await setClock(DAY_SECONDS);
    await readFile(server.path('known'));
  }
  await setClock(0);
  await expectInOrder(server, 'today');
  await server.umount();
});

test('a store that minds the time says so, and uploads wait for it', async () => {
  const server = await start();
  await server.bucket.put('known', 'content');
  await readFile(server.path('known'));
  const release = server.proxy.addFault({ effect: { type: 'status', status: 403, code: 'RequestTimeTooSkewed' } });
  await setClock(DAY_SECONDS);
  await expect(writeFile(server.path('known'), 'changed')).rejects.toMatchObject({ code: 'EACCES' });
  expect(server.log).toContain('clock of this host');
  release();
  await setClock(-DAY_SECONDS);
  await eventually(async () => expect(await server.bucket.text('known')).toBe('changed'), LIMIT_MS);
  await server.umount();
});
