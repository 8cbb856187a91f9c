/** Random reads of a large object: how long each takes, and how much more than was asked for is fetched. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { run } from '../../scripts/lib/programs.ts';
import { startByteCounter } from '../byte-counter.ts';
import { type Measure, Recorder, type Sizes, type Suite } from '../suite.ts';
import { LOCAL } from '../targets.ts';

const MIB = 1024 * 1024;
const BLOCK_BYTES = 64 * 1024;
const LIMIT_MS = 120_000;
const OBJECT = 'large.bin';
const sizeOf = ({ quick }: Sizes) => (quick ? 64 : 512) * MIB;
const readsOf = ({ quick }: Sizes) => (quick ? 50 : 200);

const COLD: Measure = { name: 'each, cold', unit: 'ms', better: 'less', headline: true };
const HOT: Measure = { name: 'each, hot', unit: 'ms', better: 'less' };
const FETCHED: Measure = { name: 'fetched of what was read', unit: '×', better: 'less', headline: true };

export const suite: Suite = {
  name: 'random',
  title: (sizes) =>
    `${readsOf(sizes)} reads of ${BLOCK_BYTES / 1024} KiB at random places of ${sizeOf(sizes) / MIB} MiB`,
  defaultRounds: 3,
  minutes: 2,
  isDefault: true,
  takes: (target) => target.writable && !target.isVariant,

  async run(lab, field, options) {
    const { rounds, signal } = options;
    const recorder = new Recorder();
    const data = lab.dataSet(new Map([[OBJECT, randomBytes(sizeOf(options))]]));
    const reads = readsOf(options);
    field.plan(rounds);
    for (let round = 1; round <= rounds; round += 1) {
      await field.each(`round ${round} of ${rounds}`, async (target) => {
        const counter = await startByteCounter(lab.server.endpoint);
        try {
          const mounted = await lab.mount(target, data, counter.endpoint);
          const args = [join(mounted.root, OBJECT), String(BLOCK_BYTES), String(reads), String(round)];
          const program = await lab.program('random');
          const readAll = async () => Number((await run(program, args, { limitMs: LIMIT_MS, signal })).stdout) / 1000;
          const before = counter.bytes;
          const coldMs = await readAll();
          if (target.name !== LOCAL) {
            recorder.add(COLD, target.name, coldMs / reads);
            recorder.add(FETCHED, target.name, (counter.bytes - before) / (reads * BLOCK_BYTES));
          }
          recorder.add(HOT, target.name, (await readAll()) / reads);
          if (target.name !== LOCAL) await lab.unmount(mounted);
        } finally {
          await counter.stop();
        }
      });
    }
    return recorder.rows;
  },
};
