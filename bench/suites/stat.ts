/** Attributes of hot files: what PHP asks for on every call. */
import { Recorder, type Sizes, type Suite } from '../suite.ts';
import { mountWarm, visitsPerSecond } from '../warm.ts';

const CLIENTS = [1, 4];
const filesOf = ({ quick }: Sizes) => (quick ? 50 : 500);

export const suite: Suite = {
  name: 'stat',
  title: (sizes) => `lstat of ${filesOf(sizes)} hot files`,
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
          const perSecond = await visitsPerSecond(lab, 'stat', mounted, { ...visits, clients });
          const measure = { name, unit: '/s', better: 'more' } as const;
          recorder.add(clients === 1 ? { ...measure, headline: true } : measure, target.name, perSecond);
        });
      }
    }
    return recorder.rows;
  },
};
