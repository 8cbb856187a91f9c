/** One large file: cold and hot, read and written. */
import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { freemem } from 'node:os';
import { join } from 'node:path';
import { run } from '../../scripts/lib/programs.ts';
import { createBucket } from '../../test/support/buckets.ts';
import { BARE_SDK, readBare, writeBare } from '../bare-sdk.ts';
import type { DataSet } from '../data-set.ts';
import type { Lab } from '../lab.ts';
import { type Measure, Recorder, type Sizes, type Suite } from '../suite.ts';
import { LOCAL, type MountedTarget, type Target } from '../targets.ts';

const MIB = 1024 * 1024;
const LIMIT_MS = 300_000;
const OBJECT = 'large.bin';
const WRITTEN = 'written.bin';
const HOT_READS = 3;
const MEMORY_FACTOR = 4;
const sizeOf = ({ quick }: Sizes) => (quick ? 128 : 1024) * MIB;

const rate = (name: string): Measure => ({ name, unit: 'MB/s', better: 'more', headline: true });
const FIRST_BYTE: Measure = { name: 'first byte, cold', unit: 'ms', better: 'less' };

export const suite: Suite = {
  name: 'sequential',
  title: (sizes) =>
    `one file of ${sizeOf(sizes) / MIB} MiB in calls of 1 MiB; “bare SDK”: parallel ranges, parallel parts`,
  defaultRounds: 2,
  minutes: 4,
  isDefault: true,
  takes: (target) => target.writable && !target.isVariant,
  extraTargets: [BARE_SDK],

  async run(lab, field, options) {
    const { rounds, signal } = options;
    const sizeBytes = sizeOf(options);
    const recorder = new Recorder();
    field.say(`making an object of ${sizeBytes / MIB} MiB`);
    const data = lab.dataSet(new Map([[OBJECT, incompressible(sizeBytes)]]));
    const bench: Bench = { lab, data, sizeBytes, recorder, signal };
    field.plan(2 * rounds);
    for (let round = 1; round <= rounds; round += 1) {
      await field.each(`round ${round} of ${rounds}, reading`, (target) => measureReads(bench, target));
      await field.each(`round ${round} of ${rounds}, writing`, (target) => measureWrite(bench, target));
    }
    return recorder.rows;
  },
};

interface Bench {
  readonly lab: Lab;
  readonly data: DataSet;
  readonly sizeBytes: number;
  readonly recorder: Recorder;
  readonly signal: AbortSignal;
}

async function measureReads(bench: Bench, target: Target): Promise<void> {
  const { lab, data, sizeBytes, recorder } = bench;
  const add = (name: string, elapsedMs: number) => recorder.add(rate(name), target.name, sizeBytes / 1000 / elapsedMs);
  if (target === BARE_SDK) {
    await haveMemory(bench);
    add('read, cold', await readBare({ server: lab.server, bucket: await data.bucket(), key: OBJECT, sizeBytes }));
    return;
  }
  const mounted = await lab.mount(target, data);
  const isLocal = target.name === LOCAL;
  if (isLocal) await lab.forget(mounted.root);
  await haveMemory(bench);
  const cold = await read(bench, mounted);
  if (!isLocal) {
    add('read, cold', cold.elapsedMs);
    recorder.add(FIRST_BYTE, target.name, cold.firstMs);
    // The store has filled memory meanwhile, and the first read after the cold one may still move the file from one place to another.
    await haveMemory(bench);
  }
  add('read, second time', (await read(bench, mounted)).elapsedMs);
  for (let i = 0; i < HOT_READS; i += 1) add('read, hot', (await read(bench, mounted)).elapsedMs);
  await leave(bench, mounted, target);
}

async function measureWrite(bench: Bench, target: Target): Promise<void> {
  const { lab, sizeBytes, recorder } = bench;
  const bucket = `written-${target.name.replaceAll(/\W/g, '-').toLowerCase()}-${performance.now().toFixed(0)}`;
  const add = (name: string, elapsedMs: number) => recorder.add(rate(name), target.name, sizeBytes / 1000 / elapsedMs);
  if (target === BARE_SDK) {
    await createBucket(lab.server, bucket);
    await haveMemory(bench);
    add('write, until stored', await writeBare({ server: lab.server, bucket, key: WRITTEN, sizeBytes }));
    return;
  }
  const mounted = await lab.mount(target, lab.dataSet());
  const path = join(mounted.root, WRITTEN);
  await haveMemory(bench);
  const [writeMs = Number.NaN, closeMs = Number.NaN] = await sequential(bench, 'write', path, String(sizeBytes));
  add('write, calls', writeMs);
  // Where close() returns before the object is stored, there is nothing to compare.
  if (target.name !== LOCAL && target.writeBackMs === 0) add('write, until stored', closeMs);
  await rm(path);
  await leave(bench, mounted, target);
}

/** For the store's copy, the page cache and some more: no target pays for memory that the host has to give first. */
async function haveMemory({ lab, sizeBytes, signal }: Bench): Promise<void> {
  const mib = Math.floor(Math.min(MEMORY_FACTOR * sizeBytes, freemem() / 2) / MIB);
  await run(await lab.program('take-memory'), [String(mib)], { limitMs: LIMIT_MS, signal });
}

async function read(bench: Bench, { root }: MountedTarget): Promise<{ firstMs: number; elapsedMs: number }> {
  const [firstMs = Number.NaN, elapsedMs = Number.NaN] = await sequential(bench, 'read', join(root, OBJECT));
  return { firstMs, elapsedMs };
}

/** What the program prints, in ms. */
async function sequential({ lab, signal }: Bench, ...args: readonly string[]): Promise<number[]> {
  const { stdout } = await run(await lab.program('sequential'), args, { limitMs: LIMIT_MS, signal });
  return stdout.split(' ').map((us) => Number(us) / 1000);
}

async function leave({ lab }: Bench, mounted: MountedTarget, { name }: Target): Promise<void> {
  if (name !== LOCAL) await lab.unmount(mounted);
}

/** Without end of repetition within any window that compresses. */
function incompressible(sizeBytes: number): Buffer {
  const bytes = Buffer.allocUnsafe(sizeBytes);
  for (let at = 0, seed = 0; at < sizeBytes; seed += 1) {
    const block = createHash('shake256', { outputLength: MIB }).update(`${seed}`).digest();
    at += block.copy(bytes, at);
  }
  return bytes;
}
