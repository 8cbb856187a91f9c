/** What FUSE itself costs: the same hot files from a program in C that does next to nothing, beside tsfs. */
import { compileProgram } from '../lab.ts';
import { type Measure, Recorder, type Suite } from '../suite.ts';
import { LOCAL, makeDirectories, mountWith, type Target } from '../targets.ts';
import { IMAGE_BYTES, measureCycles, mountWarm } from '../warm.ts';

const FILES = 500;

/** Mounting without a helper is root's alone. */
function stub(name: string, mode: 'opens' | 'opens-awake' | 'no-opens'): Target {
  return {
    name,
    format: 'built-in',
    writable: false,
    isVariant: true,
    writeBackMs: 0,
    availability: async () => ({ version: '', options: mode }),
    mount: async (request) => {
      const { mountpoint } = await makeDirectories(request);
      const program = await compileProgram('stub-fuse', request.directory);
      const args = [mode, mountpoint, String(FILES), String(IMAGE_BYTES)];
      return mountWith({ program, args, mountpoints: [mountpoint] });
    },
  };
}

export const suite: Suite = {
  name: 'floor',
  title: () =>
    `open + fstat + read + close of ${FILES} hot files of ${IMAGE_BYTES / 1024} KB; “stub”: a C program with constant replies, ` +
    'which answers opens (“awake”: never sleeps), or is asked for none',
  defaultRounds: 5,
  minutes: 2,
  isDefault: true,
  takes: ({ name }) => [LOCAL, 'tsfs', 'tsfs-ro', 'tsfs-ro_view'].includes(name),
  extraTargets: [stub('stub', 'opens'), stub('stub, awake', 'opens-awake'), stub('stub, no opens', 'no-opens')],

  async run(lab, field, options) {
    const { rounds, quick, signal } = options;
    const visits = { files: FILES, clients: 1, durationMs: quick ? 200 : 1_000, signal };
    const cycles: Measure = { name: 'cycles, 1 client', unit: '/s', better: 'more', headline: true };
    const cpu: Measure = { name: 'CPU of the daemon for each', unit: 'µs', better: 'less' };
    const recorder = new Recorder();
    field.plan(1 + rounds);
    const mounts = await mountWarm(lab, field, { ...options, files: FILES });
    for (let round = 1; round <= rounds; round += 1) {
      await field.each(`round ${round} of ${rounds}`, async ({ name }) => {
        const mounted = mounts.get(name);
        if (mounted === undefined) return;
        const { perSecond, cpuUs } = await measureCycles(lab, mounted, visits);
        recorder.add(cycles, name, perSecond);
        if (cpuUs !== undefined) recorder.add(cpu, name, cpuUs);
      });
    }
    return recorder.rows;
  },
};
