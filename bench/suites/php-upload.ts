/** An upload in WordPress: one image and its resized copies. */
import { run } from '../../scripts/lib/programs.ts';
import { startProxy } from '../../test/support/proxy.ts';
import { Recorder, type Suite } from '../suite.ts';
import { LOCAL } from '../targets.ts';
import { requestNote, untilQuiet } from '../traffic.ts';

const LATENCY_MS = 20;
const IMAGE_BYTES = 400 * 1024;
/** Files that the month has already. */
const PRESENT = 200;
const LIMIT_MS = 120_000;
const UPLOADS = [
  { name: 'first upload after the mount', headline: false },
  { name: 'second upload', headline: true },
  { name: 'third upload', headline: false },
];

export const suite: Suite = {
  name: 'php-upload',
  title: ({ quick }) =>
    `the system calls of WordPress for one image of ${IMAGE_BYTES / 1024} KB and 8 resized copies, ` +
    `${quick ? 20 : PRESENT} files in the month, ${LATENCY_MS} ms a request`,
  defaultRounds: 3,
  minutes: 2,
  isDefault: true,
  takes: (target) => target.writable && !target.isVariant,

  async run(lab, field, { rounds, quick, signal }) {
    const program = await lab.program('wordpress');
    const recorder = new Recorder();
    const present = Array.from({ length: quick ? 20 : PRESENT }, (_, i) => `2024/05/present-${i}.jpg`);
    const files = new Map(present.map((path) => [path, Buffer.alloc(1024)]));
    field.plan(rounds);
    for (let round = 1; round <= rounds; round += 1) {
      await field.each(`round ${round} of ${rounds}`, async (target) => {
        const proxy = await startProxy({ upstream: lab.server.endpoint, latencyMs: LATENCY_MS });
        try {
          const mounted = await lab.mount(target, lab.dataSet(files), proxy.endpoint);
          for (const [number, { name, headline }] of UPLOADS.entries()) {
            proxy.reset();
            const args = [mounted.root, `photo-${number}`, String(IMAGE_BYTES)];
            const { stdout } = await run(program, args, { limitMs: LIMIT_MS, signal });
            if (target.name !== LOCAL) await untilQuiet(proxy, target.writeBackMs, signal);
            const note = target.name === LOCAL ? undefined : requestNote(proxy);
            const measure = { name, unit: 'ms', better: 'less' } as const;
            recorder.add(headline ? { ...measure, headline } : measure, target.name, Number(stdout) / 1000, note);
          }
          await lab.unmount(mounted);
        } finally {
          await proxy.stop();
        }
      });
    }
    return recorder.rows;
  },
};
