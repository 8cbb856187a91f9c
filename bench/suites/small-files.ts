/** Many small files: created, copied and deleted, by one process and by many. */
import { join } from 'node:path';
import { run } from '../../scripts/lib/programs.ts';
import { startProxy } from '../../test/support/proxy.ts';
import { BARE_SDK } from '../bare-sdk.ts';
import { writeFiles } from '../data-set.ts';
import type { Lab } from '../lab.ts';
import { type Measure, Recorder, type Sizes, type Suite } from '../suite.ts';
import { LOCAL, type Target } from '../targets.ts';
import { requestsPerFile, untilQuiet } from '../traffic.ts';

const LATENCIES_MS = [20, 0];
const FILE_BYTES = 10 * 1024;
const MANY_WRITERS = 16;
const GRACE_MS = 120_000;
const SOURCES = 'sources';
const BARE_PROGRAM = new URL('../programs/bare-create.ts', import.meta.url).pathname;
const filesOf = ({ quick }: Sizes) => (quick ? 200 : 2000);
/** What is not done by then is left undone: rates are compared. */
const limitOf = ({ quick }: Sizes) => (quick ? 2_000 : 8_000);

interface Act {
  readonly name: string;
  readonly headline?: true;
  /** Arguments of the program, but for the limit. */
  readonly args: (root: string, sources: string, sizes: Sizes) => readonly string[];
  /** So many processes make files: what the bare SDK can do too. */
  readonly writers?: number;
}

const ACTS: readonly Act[] = [
  creation('1 writer', 1),
  creation(`${MANY_WRITERS} writers`, MANY_WRITERS),
  { name: 'cp -r into it', args: (root, sources) => ['copy', join(root, 'copied'), sources, '1'] },
  { name: 'rm -r', headline: true, args: (root) => ['delete', join(root, 'old'), '1'] },
];

function creation(by: string, writers: number): Act {
  return {
    name: `create, ${by}`,
    headline: true,
    writers,
    args: (root, _, sizes) => [
      'create',
      join(root, `by-${writers}`),
      ...[filesOf(sizes), FILE_BYTES, writers].map(String),
    ],
  };
}

export const suite: Suite = {
  name: 'small-files',
  title: (sizes) =>
    `${filesOf(sizes)} files of ${FILE_BYTES / 1024} KB, with ${LATENCIES_MS.join(' and ')} ms a request, ` +
    `stopped after ${limitOf(sizes) / 1000} s; “bare SDK”: as many PUTs at once as there are writers`,
  defaultRounds: 2,
  minutes: 6,
  isDefault: true,
  takes: (target) => target.writable && !target.isVariant,
  extraTargets: [BARE_SDK],

  async run(lab, field, options) {
    const { rounds, signal } = options;
    const recorder = new Recorder();
    const sources = join(lab.scratch, SOURCES);
    await writeFiles(sources, files(options));
    field.plan(rounds * LATENCIES_MS.length);
    for (let round = 1; round <= rounds; round += 1) {
      for (const latencyMs of LATENCIES_MS) {
        await field.each(`round ${round} of ${rounds}, ${latencyMs} ms`, (target) =>
          (target === BARE_SDK ? measureBare : measure)(target, {
            lab,
            latencyMs,
            sources,
            recorder,
            sizes: options,
            signal,
          }),
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
    for (const act of ACTS) {
      proxy.reset();
      const all = [...act.args(mounted.root, sources, sizes), String(limitOf(sizes))];
      const { stdout } = await run(program, all, { limitMs: limitOf(sizes) + GRACE_MS, signal });
      const { done, perSecond } = rateOf(stdout);
      if (target.name !== LOCAL) await untilQuiet(proxy, target.writeBackMs, signal);
      const note = target.name === LOCAL ? undefined : requestsPerFile(proxy, done);
      recorder.add(rowOf(act, latencyMs), target.name, perSecond, note);
    }
    await lab.unmount(mounted);
  } finally {
    await proxy.stop();
  }
}

/** In a process of its own, as the proxy must not wait for it. */
async function measureBare(target: Target, round: Round): Promise<void> {
  const { lab, latencyMs, recorder, sizes, signal } = round;
  const { endpoint, accessKeyId, secretAccessKey } = lab.server;
  const proxy = await startProxy({ upstream: endpoint, latencyMs });
  const env = { ...process.env, AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey };
  try {
    const bucket = await lab.dataSet().bucket();
    for (const act of ACTS) {
      if (act.writers === undefined) continue;
      proxy.reset();
      const numbers = [filesOf(sizes), FILE_BYTES, act.writers, limitOf(sizes)].map(String);
      const args = [BARE_PROGRAM, proxy.endpoint, bucket, ...numbers];
      const { stdout } = await run(process.execPath, args, { limitMs: limitOf(sizes) + GRACE_MS, signal, env });
      const { done, perSecond } = rateOf(stdout);
      recorder.add(rowOf(act, latencyMs), target.name, perSecond, requestsPerFile(proxy, done));
    }
  } finally {
    await proxy.stop();
  }
}

function rateOf(output: string): { done: number; perSecond: number } {
  const [done = Number.NaN, elapsedUs = Number.NaN] = output.split(' ').map(Number);
  return { done, perSecond: (done / elapsedUs) * 1e6 };
}

function rowOf({ name, headline }: Act, latencyMs: number): Measure {
  const row = { name: `${name}, ${latencyMs} ms`, unit: '/s', better: 'more' } as const;
  return headline && latencyMs > 0 ? { ...row, headline } : row;
}

function files(sizes: Sizes, prefix = ''): Map<string, Uint8Array> {
  const content = Buffer.alloc(FILE_BYTES, 'x');
  return new Map(Array.from({ length: filesOf(sizes) }, (_, i) => [`${prefix}${i}.jpg`, content]));
}
