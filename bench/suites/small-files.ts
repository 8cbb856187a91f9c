/** Many small files: created, copied and deleted, by one process and by many. */
import { join } from 'node:path';
import { run } from '../../scripts/lib/programs.ts';
import { startProxy } from '../../test/support/proxy.ts';
import { writeFiles } from '../data-set.ts';
import type { Lab } from '../lab.ts';
import { Recorder, type Sizes, type Suite } from '../suite.ts';
import { LOCAL, type Target } from '../targets.ts';
import { requestsPerFile, untilQuiet } from '../traffic.ts';

const LATENCIES_MS = [20, 0];
const FILE_BYTES = 10 * 1024;
const MANY_WRITERS = 16;
const GRACE_MS = 120_000;
const SOURCES = 'sources';
const filesOf = ({ quick }: Sizes) => (quick ? 200 : 2000);
/** What is not done by then is left undone: rates are compared. */
const limitOf = ({ quick }: Sizes) => (quick ? 2_000 : 8_000);

interface Act {
  readonly name: string;
  readonly headline?: true;
  /** Arguments of the program, but for the limit. */
  readonly args: (root: string, sources: string, sizes: Sizes) => readonly string[];
}

const ACTS: readonly Act[] = [
  {
    name: 'create, 1 writer',
    headline: true,
    args: (root, _, sizes) => ['create', join(root, 'one'), String(filesOf(sizes)), String(FILE_BYTES), '1'],
  },
  {
    name: `create, ${MANY_WRITERS} writers`,
    headline: true,
    args: (root, _, sizes) => [
      'create',
      join(root, 'many'),
      String(filesOf(sizes)),
      String(FILE_BYTES),
      String(MANY_WRITERS),
    ],
  },
  { name: 'cp -r into it', args: (root, sources) => ['copy', join(root, 'copied'), sources, '1'] },
  { name: 'rm -r', headline: true, args: (root) => ['delete', join(root, 'old'), '1'] },
];

export const suite: Suite = {
  name: 'small-files',
  title: (sizes) =>
    `${filesOf(sizes)} files of ${FILE_BYTES / 1024} KB, with ${LATENCIES_MS.join(' and ')} ms a request, ` +
    `stopped after ${limitOf(sizes) / 1000} s`,
  defaultRounds: 2,
  minutes: 6,
  isDefault: true,
  takes: (target) => target.writable && !target.isVariant,

  async run(lab, field, options) {
    const { rounds, signal } = options;
    const recorder = new Recorder();
    const sources = join(lab.scratch, SOURCES);
    await writeFiles(sources, files(options));
    field.plan(rounds * LATENCIES_MS.length);
    for (let round = 1; round <= rounds; round += 1) {
      for (const latencyMs of LATENCIES_MS) {
        await field.each(`round ${round} of ${rounds}, ${latencyMs} ms`, (target) =>
          measure(target, { lab, latencyMs, sources, recorder, sizes: options, signal }),
        );
      }
    }
    return recorder.rows;
  },
};

interface Round {
  readonly lab: Lab;
  readonly latencyMs: number;
  readonly sources: string;
  readonly recorder: Recorder;
  readonly sizes: Sizes;
  readonly signal: AbortSignal;
}

async function measure(target: Target, round: Round): Promise<void> {
  const { lab, latencyMs, sources, recorder, sizes, signal } = round;
  const proxy = await startProxy({ upstream: lab.server.endpoint, latencyMs });
  try {
    // A bucket for each: files are deleted from it.
    const mounted = await lab.mount(target, lab.dataSet(files(sizes, 'old/')), proxy.endpoint);
    const program = await lab.program('small-files');
    for (const { name, args, headline } of ACTS) {
      proxy.reset();
      const all = [...args(mounted.root, sources, sizes), String(limitOf(sizes))];
      const { stdout } = await run(program, all, { limitMs: limitOf(sizes) + GRACE_MS, signal });
      const [done = Number.NaN, elapsedUs = Number.NaN] = stdout.split(' ').map(Number);
      if (target.name !== LOCAL) await untilQuiet(proxy, target.writeBackMs, signal);
      const note = target.name === LOCAL ? undefined : requestsPerFile(proxy, done);
      const measured = { name: `${name}, ${latencyMs} ms`, unit: '/s', better: 'more' } as const;
      const isHeadline = headline && latencyMs > 0;
      recorder.add(isHeadline ? { ...measured, headline } : measured, target.name, (done / elapsedUs) * 1e6, note);
    }
    await lab.unmount(mounted);
  } finally {
    await proxy.stop();
  }
}

function files(sizes: Sizes, prefix = ''): Map<string, Uint8Array> {
  const content = Buffer.alloc(FILE_BYTES, 'x');
  return new Map(Array.from({ length: filesOf(sizes) }, (_, i) => [`${prefix}${i}.jpg`, content]));
}
