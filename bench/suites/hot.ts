/** Hot reads: what a web server does with files that it served before. */
import { Recorder, type Sizes, type Suite } from '../suite.ts';
import { IMAGE_BYTES, measureCycles, mountWarm } from '../warm.ts';

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
    const visits = { files: filesOf(options), durationMs: quick ? 200 : 1_000, signal };
    const recorder = new Recorder();
    field.plan(1 + rounds * CLIENTS.length);
    const mounts = await mountWarm(lab, field, { ...options, files: filesOf(options) });
    for (let round = 1; round <= rounds; round += 1) {
      for (const clients of CLIENTS) {
        const name = `${clients} client${clients > 1 ? 's' : ''}`;
        await field.each(`round ${round} of ${rounds}, ${name}`, async (target) => {
          const mounted = mounts.get(target.name);
          if (mounted === undefined) return;
          const { perSecond, cpuUs } = await measureCycles(lab, mounted, { ...visits, clients });
          recorder.add({ name, unit: '/s', better: 'more', headline: true }, target.name, perSecond);
          if (cpuUs === undefined) return;
          const measure = { name: `CPU of the daemon for each, ${name}`, unit: 'µs', better: 'less' } as const;
          recorder.add(measure, target.name, cpuUs);
        });
      }
    }
    return recorder.rows;
  },
};
