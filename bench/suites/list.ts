/** `ls -l`: cold, where each request takes some time, and hot. */
import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../scripts/lib/programs.ts';
import { startProxy } from '../../test/support/proxy.ts';
import type { Lab } from '../lab.ts';
import { type Measure, Recorder, type Sizes, type Suite } from '../suite.ts';
import { directoryName, fileName, startSyntheticBucket } from '../synthetic-bucket.ts';
import { LOCAL, type MountedTarget, type Target } from '../targets.ts';
import { requestNote } from '../traffic.ts';

const LATENCY_MS = 20;
const FEW = 1_000;
const FILE_BYTES = 1024;
const LIMIT_MS = 240_000;
const HOT_ROUNDS = 3;
const BUCKET = 'synthetic';
/** Peers that ask for each file in turn would take longer than everything else. */
const LISTS_MANY: ReadonlySet<string> = new Set([LOCAL, 'tsfs', 'rclone']);
const manyOf = ({ quick }: Sizes) => (quick ? 10_000 : 100_000);

export const suite: Suite = {
  name: 'list',
  title: (sizes) =>
    `names and attributes of ${FEW} files with ${LATENCY_MS} ms a request, and of ${manyOf(sizes)} with none`,
  defaultRounds: 2,
  minutes: 3,
  isDefault: true,
  takes: (target) => target.writable && !target.isVariant && target.format !== 'own',

  async run(lab, field, options) {
    const { rounds, signal } = options;
    const recorder = new Recorder();
    const few = lab.dataSet(
      new Map(Array.from({ length: FEW }, (_, i) => [`${directoryName(0)}/${fileName(i)}`, randomBytes(FILE_BYTES)])),
    );
    const many = manyOf(options);
    const localMany = await makeFiles(lab, many);
    field.plan(2 * rounds);
    for (let round = 1; round <= rounds; round += 1) {
      await field.each(`round ${round} of ${rounds}, ${FEW} files`, async (target) => {
        const proxy = await startProxy({ upstream: lab.server.endpoint, latencyMs: LATENCY_MS });
        try {
          const mounted = await lab.mount(target, few, proxy.endpoint);
          proxy.reset();
          await measure({ lab, recorder, target, mounted, files: FEW, signal, note: () => requestNote(proxy) });
        } finally {
          await proxy.stop();
        }
      });
      await field.each(`round ${round} of ${rounds}, ${many} files`, async (target) => {
        if (!LISTS_MANY.has(target.name)) return;
        const bucket = await startSyntheticBucket({ bucket: BUCKET, objects: many, perDirectory: many });
        try {
          const mounted =
            target.name === LOCAL
              ? { root: localMany, unmount: async () => {} }
              : await lab.mountBucket(target, BUCKET, bucket.endpoint);
          await measure({ lab, recorder, target, mounted, files: many, signal });
        } finally {
          await bucket.stop();
        }
      });
    }
    return recorder.rows;
  },
};

interface Listing {
  readonly lab: Lab;
  readonly recorder: Recorder;
  readonly target: Target;
  readonly mounted: MountedTarget;
  readonly files: number;
  readonly signal: AbortSignal;
  /** What the first listing took. */
  readonly note?: () => string;
}

async function measure({ lab, recorder, target, mounted, files, signal, note }: Listing): Promise<void> {
  const program = await lab.program('list');
  const list = async () => {
    const args = ['stat', join(mounted.root, directoryName(0))];
    const { stdout } = await run(program, args, { limitMs: LIMIT_MS, signal });
    const [elapsedUs = Number.NaN, count] = stdout.split(' ').map(Number);
    if (count !== files) throw new Error(`${count} of ${files} files were listed`);
    return elapsedUs / 1000;
  };
  const row = (name: string): Measure => ({
    name: `${files} files, ${name}`,
    unit: 'ms',
    better: 'less',
    headline: true,
  });
  const coldMs = await list();
  if (target.name !== LOCAL) recorder.add(row('cold'), target.name, coldMs, note?.());
  for (let i = 0; i < HOT_ROUNDS; i += 1) recorder.add(row('hot'), target.name, await list());
  if (target.name !== LOCAL) await lab.unmount(mounted);
}

/** The same names on the local disk; the directory above them. */
async function makeFiles(lab: Lab, count: number): Promise<string> {
  const root = join(lab.scratch, 'many');
  const directory = join(root, directoryName(0));
  await mkdir(directory, { recursive: true });
  const numbers = Array.from({ length: count }, (_, i) => i).values();
  const worker = async () => {
    for (const number of numbers) await writeFile(join(directory, fileName(number)), '');
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  return root;
}
