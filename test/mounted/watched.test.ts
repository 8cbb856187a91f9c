/** Directories in heavy use: the kernel believes their names for long, and is told what changes. */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { MountStatus } from '../../src/mount/status.ts';
import type { TestBucket } from './bucket.ts';
import { eventually, newBucket, startServer, type TestServer } from './harness.ts';
import { runProgram, shell } from './syscalls.ts';

const CLI = join(import.meta.dirname, '../../src/cli/main.ts');
const LIMIT_MS = 120_000;
const EXPIRE_S = 2;
/** Listings are renewed in its last quarter: for a machine that stands still for a moment that is a second. */
const STEADY_EXPIRE_S = 4;
const SOON_MS = 10_000;
const FILES = 40;
const MODE_640 = { mode: String(0o100640) };
/** By name: a pattern would read the directory, and bring the names to the kernel so. */
const READ_ALL = `cat ${Array.from({ length: FILES }, (_, i) => `d/f${i}`).join(' ')} > /dev/null`;
/** What remains of them once some are gone. */
const READ_SOME = `cat ${Array.from({ length: FILES / 2 }, (_, i) => `d/f${i + 10}`).join(' ')} > /dev/null`;

async function statusOf(server: TestServer): Promise<MountStatus> {
  return JSON.parse((await runProgram(process.execPath, [CLI, 'status', server.dir, '--json'])).output) as MountStatus;
}

async function filledBucket(): Promise<TestBucket> {
  const bucket = await newBucket();
  await Promise.all(Array.from({ length: FILES }, (_, i) => bucket.put(`d/f${i}`, `content ${i}\n`)));
  return bucket;
}

/** A mount whose directory is read until it is watched. */
async function startWatched(
  bucket: TestBucket,
  options: readonly string[] = [],
  expireS = EXPIRE_S,
): Promise<TestServer> {
  const server = await startServer({ bucket, options: [`stat_cache_expire=${expireS}`, ...options] });
  await eventually(async () => {
    await shell(server.dir, READ_ALL);
    expect((await statusOf(server)).fileSystem.watchedDirectories).toBe(1);
  }, SOON_MS);
  await shell(server.dir, READ_ALL);
  return server;
}

describe.each([
  ['rw', []],
  ['ro', ['ro']],
])('%s', { timeout: LIMIT_MS }, (mode, options) => {
  test('names in use are not asked for, and cost one LIST in each expiry time', async () => {
    const server = await startWatched(await filledBucket(), options, STEADY_EXPIRE_S);
    const before = (await statusOf(server)).kernel.counters;
    server.resetRequests();
    const startMs = Date.now();
    let rounds = 0;
    for (; Date.now() < startMs + 3000 * STEADY_EXPIRE_S; rounds += 1) await shell(server.dir, READ_ALL);
    const expiries = (Date.now() - startMs) / (1000 * STEADY_EXPIRE_S);
    const { LIST = 0, ...others } = server.requests();
    expect(others).toEqual({});
    expect(LIST).toBeGreaterThan(0);
    // One for the directory's names, in good time, and one for whether there still is a directory.
    expect(LIST).toBeLessThanOrEqual(3 * expiries + 2);
    const after = (await statusOf(server)).kernel.counters;
    const hot = (counters: typeof after) => counters.hotOpens + counters.hotReleases;
    const asked = after.requests - hot(after) - (before.requests - hot(before));
    // The directory on the way, and each name once at most; on a writable mount its OPEN and RELEASE besides.
    const perFile = mode === 'ro' ? 1 : 5;
    expect(rounds).toBeGreaterThan(10);
    expect(asked).toBeLessThan(perFile * FILES + 8 * rounds);
  });

  test('what others change is seen', async () => {
    const bucket = await filledBucket();
    const server = await startWatched(bucket, options);
    await bucket.put('d/f1', 'replaced\n');
    await bucket.delete('d/f2');
    await bucket.put('d/f3', 'content 3\n', { metadata: MODE_640 });
    await bucket.put('d/new', 'new\n');
    await eventually(async () => {
      await shell(server.dir, `${READ_SOME}; test "$(cat d/f1)" = replaced; ! test -e d/f2; test "$(cat d/new)" = new`);
      expect(await shell(server.dir, 'stat -c %a d/f3')).toBe('640\n');
    }, SOON_MS);
  });

  test('also after the worker was replaced', async () => {
    const bucket = await filledBucket();
    const server = await startWatched(bucket, options);
    process.kill((await server.workerPid()) as number, 'SIGKILL');
    await bucket.put('d/f1', 'replaced\n');
    await bucket.delete('d/f2');
    await eventually(async () => {
      await shell(server.dir, 'test "$(cat d/f1)" = replaced; ! test -e d/f2');
    }, SOON_MS);
  });
});

test('a directory that becomes too large for one listing is asked name by name again', {
  timeout: LIMIT_MS,
}, async () => {
  const bucket = await filledBucket();
  const server = await startWatched(bucket);
  for (let from = 0; from < 1000; from += 50) {
    await Promise.all(Array.from({ length: 50 }, (_, i) => bucket.put(`d/a${from + i}`, '')));
  }
  await bucket.put('d/f39', 'replaced\n');
  await eventually(async () => {
    await shell(server.dir, 'test "$(cat d/f39)" = replaced');
    expect((await statusOf(server)).fileSystem.watchedDirectories).toBe(0);
  }, SOON_MS);
  await bucket.put('d/f38', 'replaced\n');
  await eventually(() => shell(server.dir, 'test "$(cat d/f38)" = replaced'), SOON_MS);
});
