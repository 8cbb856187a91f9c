/** The hot table: what native threads answer, and that nothing which changes is answered so. */
import { existsSync } from 'node:fs';
import { readdir, readlink } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { Background } from '../../scripts/lib/programs.ts';
import type { MountStatus } from '../../src/mount/status.ts';
import { newBucket, startServer, type TestServer } from './harness.ts';
import { runProgram, shell } from './syscalls.ts';

const CLI = join(import.meta.dirname, '../../src/cli/main.ts');
/** Opens a file for as long as it lives. */
const BUSY_CLIENT = 'const fs = require("node:fs"); for (;;) fs.closeSync(fs.openSync(process.argv[1]));';
const LATENCY_DEVICE = '/dev/cpu_dma_latency';
/** Whether the run tests mounts without the table. */
const isOff = (process.env.TSFS_TEST_OPTIONS ?? '').includes('no_hot_table');

async function statusOf(server: TestServer): Promise<MountStatus> {
  return JSON.parse((await runProgram(process.execPath, [CLI, 'status', server.dir, '--json'])).output) as MountStatus;
}

/** Whether idle CPUs poll because the mount asked for it. */
async function makesIdleCpusPoll(pid: number): Promise<boolean> {
  const descriptors = `/proc/${pid}/fd`;
  const targets = (await readdir(descriptors)).map((fd) => readlink(join(descriptors, fd)).catch(() => undefined));
  return (await Promise.all(targets)).includes(LATENCY_DEVICE);
}

async function hotOpens(server: TestServer): Promise<number> {
  return (await statusOf(server)).kernel.counters.hotOpens;
}

test.skipIf(isOff)('files in use are answered for, and status shows it', async () => {
  const bucket = await newBucket();
  for (let i = 0; i < 20; i++) await bucket.put(`f${i}`, `content ${i}`);
  const server = await startServer({ bucket });
  for (let round = 0; round < 4; round++) await shell(server.dir, 'cat f*');
  const { counters } = (await statusOf(server)).kernel;
  expect(counters.hotNodes).toBe(20);
  expect(counters.hotOpens).toBeGreaterThanOrEqual(20);
  expect(counters.hotReleases).toBeLessThanOrEqual(counters.hotOpens);
});

test('the option switches it off', async () => {
  const bucket = await newBucket();
  await bucket.put('f', 'content');
  const server = await startServer({ bucket, options: ['no_hot_table'] });
  expect(await shell(server.dir, 'for i in 1 2 3 4; do cat f; done')).toBe('content'.repeat(4));
  expect(await hotOpens(server)).toBe(0);
});

test('local changes of files in use show at once', async () => {
  const bucket = await newBucket();
  await bucket.put('f', 'old');
  const server = await startServer({ bucket });
  const heat = 'for i in 1 2 3; do cat f > /dev/null; done';
  await shell(server.dir, `${heat}; chmod 600 f; test $(stat -c %a f) = 600`);
  await shell(server.dir, `${heat}; printf newer > f; test "$(cat f)" = newer; test $(stat -c %s f) = 5`);
  await shell(server.dir, `${heat}; printf +x >> f; test "$(cat f)" = newer+x`);
  await shell(server.dir, `${heat}; truncate -s 2 f; test "$(cat f)" = ne`);
  await shell(server.dir, `${heat}; touch -d @1000000000 f; test $(stat -c %Y f) = 1000000000`);
  await shell(server.dir, `${heat}; printf other > g; mv g f; test "$(cat f)" = other`);
  await shell(server.dir, `${heat}; mv f h; test "$(cat h)" = other; ! cat f 2> /dev/null`);
  await shell(server.dir, 'for i in 1 2 3; do cat h > /dev/null; done; rm h; ! cat h 2> /dev/null');
});

test('a descriptor that native threads opened keeps its file through unlink and replacement', async () => {
  const bucket = await newBucket();
  await bucket.put('f', 'first');
  await bucket.put('g', 'second');
  const server = await startServer({ bucket });
  const script = `
    for i in 1 2 3; do cat f g > /dev/null; done
    exec 3< f; exec 4< g
    printf new > n; mv n f; rm g
    cat <&3; cat <&4; cat f`;
  expect(await shell(server.dir, script)).toBe('firstsecondnew');
});

test('changes by others are seen when the belief ends, in use or not', async () => {
  const bucket = await newBucket();
  await bucket.put('f', 'before');
  const server = await startServer({ bucket, options: ['stat_cache_expire=1'] });
  await shell(server.dir, 'for i in 1 2 3; do cat f > /dev/null; done');
  await bucket.put('f', 'after it');
  await expect.poll(() => shell(server.dir, 'cat f'), { timeout: 10_000 }).toBe('after it');
});

test.skipIf(isOff)('idle CPUs poll for a client that is served hot, on a small machine, and no longer', async () => {
  const bucket = await newBucket();
  await bucket.put('f', 'content');
  const server = await startServer({ bucket });
  await shell(server.dir, 'for i in 1 2 3; do cat f > /dev/null; done');
  const worker = (await server.workerPid()) as number;
  const client = new Background(process.execPath, ['-e', BUSY_CLIENT, join(server.dir, 'f')], process.env);
  onTestFinished(() => client.stop());
  const mayPoll = availableParallelism() <= 4 && process.getuid?.() === 0 && existsSync(LATENCY_DEVICE);
  // Where others want the CPUs it takes a while until there is time to spare.
  if (mayPoll) {
    await expect.poll(() => makesIdleCpusPoll(worker), { timeout: 90_000, interval: 10 }).toBe(true);
  } else {
    await sleep(2_000);
    expect(await makesIdleCpusPoll(worker)).toBe(false);
  }
  await client.stop();
  await expect.poll(() => makesIdleCpusPoll(worker)).toBe(false);
});
