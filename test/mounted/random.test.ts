/**
 * Thousands of random operations, each compared with the local disk. The seed is in the test's name: TSFS_TEST_SEED repeats a run,
 * TSFS_TEST_STEPS makes it longer.
 */
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'vitest';
import { eventually, startServer, type TestServer } from './harness.ts';
import { RandomSource } from './random-source.ts';
import { Twin } from './twin.ts';

const SEED = Number(process.env.TSFS_TEST_SEED ?? 1);
const STEPS = Number(process.env.TSFS_TEST_STEPS ?? 3000);
const COMPARE_EVERY = 150;
const REMOUNT_EVERY = 750;
const ROUND_STEPS = 25;
const BUCKET_CHANGES = 4;
const LIMIT_MS = 60_000 + STEPS * 100;
const CONVERGENCE_LIMIT_MS = 10_000;

let scratch: string;
/** One level down, as the root on the mount is: symbolic links to `../a` lead out of both. */
let local: string;

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'tsfs-reference-'));
  local = join(scratch, 'root');
  await mkdir(local);
});

afterEach(() => rm(scratch, { recursive: true }));

async function twinOn(server: TestServer, random: RandomSource): Promise<Twin> {
  await mkdir(server.path('root'));
  return new Twin(random, { mounted: server.path('root'), local });
}

/** Runs the test; a failure tells what led to it. */
async function withHistory(twin: Twin, run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    console.error(`seed ${SEED}, after:\n${twin.history.slice(-80).join('\n')}`);
    throw error;
  } finally {
    await twin.closeHandles();
  }
}

test(`random operations, seed ${SEED}`, { timeout: LIMIT_MS }, async () => {
  const server = await startServer({ direct: true, options: ['umask=022'] });
  const twin = await twinOn(server, new RandomSource(SEED));
  await withHistory(twin, async () => {
    for (let step = 1; step <= STEPS; step++) {
      await twin.step();
      if (step % COMPARE_EVERY === 0) await twin.compare();
      if (step % REMOUNT_EVERY !== 0) continue;
      await twin.closeHandles();
      twin.history.push('remount');
      await server.remount();
      await twin.compare();
    }
  });
});

test(`random operations with changes made in the bucket, seed ${SEED}`, { timeout: LIMIT_MS }, async () => {
  const random = new RandomSource(SEED);
  const server = await startServer({
    direct: true,
    options: ['umask=022', 'stat_cache_expire=0.3', 'negative_timeout=0.3'],
  });
  const twin = await twinOn(server, random);
  await withHistory(twin, async () => {
    for (let step = 1; step <= STEPS / 4; step++) {
      await twin.step();
      if (step % ROUND_STEPS !== 0) continue;
      // An open file keeps its version; that is for the table of semantics.
      await twin.closeHandles();
      await twin.compare();
      for (let change = 0; change < BUCKET_CHANGES; change++) await changeInBucket(server, twin, random);
      await eventually(() => twin.compare(), CONVERGENCE_LIMIT_MS);
    }
  });
});

/** An object is put or deleted past the mount, and the same happens on the local disk. */
async function changeInBucket(server: TestServer, twin: Twin, random: RandomSource): Promise<void> {
  const files = await twin.files();
  if (files.length > 0 && random.next() < 0.4) {
    const path = random.pick(files);
    twin.history.push(`bucket: delete ${path}`);
    await server.bucket.delete(`root/${path}`);
    await rm(join(local, path));
    return;
  }
  const directory = random.pick(await twin.directories());
  const isReplaced = files.length > 0 && random.next() < 0.5;
  const path = isReplaced ? random.pick(files) : join(directory, `other${random.below(5)}`);
  const content = random.bytes(random.below(50_000));
  twin.history.push(`bucket: put ${path} ${content.length}`);
  await server.bucket.put(`root/${path}`, content);
  await writeFile(join(local, path), content);
  await chmod(join(local, path), 0o644);
}
