/** Hot reads: what a web server does with files that it served before. */
import { cpuMsOf } from '../processes.ts';
import { Recorder, type Sizes, type Suite } from '../suite.ts';
import { IMAGE_BYTES, mountWarm, visitsPerSecond } from '../warm.ts';

const CLIENTS = [1, 4];
const filesOf = ({ quick }: Sizes) => (quick ? 50 : 500);

export const suite: Suite = {
  name: 'hot',
  title: (sizes) => `open + fstat + read + close of ${filesOf(sizes)} hot files of ${IMAGE_BYTES / 1024} KB`,
  defaultRounds: 5,
  minutes: 2,
  isDefault: true,
  takes: () => true,

  async run(lab, field, options) {
    const { rounds, quick, signal } = options;
    const sampleMs = quick ? 200 : 1_000;
    const visits = { files: filesOf(options), durationMs: sampleMs, signal };
    const recorder = new Recorder();
    field.plan(1 + rounds * CLIENTS.length);
    const mounts = await mountWarm(lab, field, { ...options, files: filesOf(options) });
    for (let round = 1; round <= rounds; round += 1) {
      for (const clients of CLIENTS) {
        const name = `${clients} client${clients > 1 ? 's' : ''}`;
        await field.each(`round ${round} of ${rounds}, ${name}`, async (target) => {
          const mounted = mounts.get(target.name);
          if (mounted === undefined) return;
          const { pid } = mounted;
          const cpuBeforeMs = pid === undefined ? 0 : await cpuMsOf(pid);
          const perSecond = await visitsPerSecond(lab, 'cycle', mounted, { ...visits, clients });
          recorder.add({ name, unit: '/s', better: 'more', headline: true }, target.name, perSecond);
          if (pid === undefined) return;
          const cpuUs = ((await cpuMsOf(pid)) - cpuBeforeMs) * 1000;
          const cycles = (perSecond * sampleMs) / 1000;
          const measure = { name: `CPU of the daemon for each, ${name}`, unit: 'µs', better: 'less' } as const;
          recorder.add(measure, target.name, cpuUs / cycles);
        });
      }
    }
    return recorder.rows;
  },
};
