/** What more objects cost: to mount, to look one up, and in memory after all of them were listed. */
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../scripts/lib/programs.ts';
import { memoryBytesOf } from '../processes.ts';
import { type Measure, Recorder, type Sizes, type Suite, type Unit } from '../suite.ts';
import { directoryName, fileName, startSyntheticBucket } from '../synthetic-bucket.ts';

const MIB = 1024 * 1024;
const BUCKET = 'synthetic';
const PER_DIRECTORY = 1000;
const LOOKUPS = 200;
const LIST_LIMIT_MS = 600_000;
const sizesOf = ({ quick }: Sizes) => (quick ? [1_000, 10_000] : [1_000, 10_000, 100_000, 1_000_000]);

export const suite: Suite = {
  name: 'scale',
  title: (sizes) =>
    `buckets of ${sizesOf(sizes).map(labelOf).join(', ')} objects in directories of ${PER_DIRECTORY}, all of them listed once`,
  defaultRounds: 1,
  minutes: 5,
  isDefault: true,
  // Peers that ask for each file would take hours.
  takes: ({ name }) => name === 'tsfs',

  async run(lab, field, options) {
    const { rounds, signal } = options;
    const sizes = sizesOf(options);
    const recorder = new Recorder();
    field.plan(rounds * sizes.length);
    for (let round = 1; round <= rounds; round += 1) {
      for (const objects of sizes) {
        await field.each(`round ${round} of ${rounds}, ${labelOf(objects)} objects`, async (target) => {
          const add = (name: string, unit: Unit, value: number) =>
            recorder.add(point(name, unit, objects), target.name, value);
          const bucket = await startSyntheticBucket({ bucket: BUCKET, objects, perDirectory: PER_DIRECTORY });
          try {
            const startMs = performance.now();
            const mounted = await lab.mountBucket(target, BUCKET, bucket.endpoint);
            add('mount', 'ms', performance.now() - startMs);
            const listMs = await listAll(mounted.root, objects, signal);
            add('list all, each', 'µs', (listMs * 1000) / objects);
            add('lookup after it', 'µs', await lookupUs(mounted.root, objects));
            if (mounted.pid !== undefined)
              add('memory of all processes', 'MiB', (await memoryBytesOf(mounted.pid)) / MIB);
            await lab.unmount(mounted);
          } finally {
            await bucket.stop();
          }
        });
      }
    }
    return recorder.rows;
  },
};

function point(name: string, unit: Unit, objects: number): Measure {
  const curve = { name, at: objects, label: labelOf(objects) };
  return { name: `${name}, ${labelOf(objects)} objects`, unit, better: 'less', curve };
}

function labelOf(objects: number): string {
  return objects >= 1_000_000 ? `${objects / 1_000_000} M` : `${objects / 1_000} k`;
}

/** By another program, as this one keeps all names in memory. Names and attributes; milliseconds. */
async function listAll(root: string, objects: number, signal: AbortSignal): Promise<number> {
  const script = 'find "$1" -type f -size -100 | wc -l';
  const { stdout, elapsedMs } = await run('sh', ['-c', script, 'sh', root], { limitMs: LIST_LIMIT_MS, signal });
  if (Number(stdout) !== objects) throw new Error(`${stdout.trim()} of ${objects} files were listed`);
  return elapsedMs;
}

/** Of files spread over all directories. */
async function lookupUs(root: string, objects: number): Promise<number> {
  const directories = (await readdir(root)).length;
  const startMs = performance.now();
  for (let i = 0; i < LOOKUPS; i += 1) {
    const directory = Math.floor((i * directories) / LOOKUPS);
    const file = i % Math.min(PER_DIRECTORY, objects);
    await lstat(join(root, directoryName(directory), fileName(file)));
  }
  return ((performance.now() - startMs) * 1000) / LOOKUPS;
}
