/** What each operation costs in S3 requests, which is what the provider bills, and in time where a request takes some. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { run } from '../../scripts/lib/programs.ts';
import { startProxy } from '../../test/support/proxy.ts';
import { writeFiles } from '../data-set.ts';
import type { Lab } from '../lab.ts';
import { Recorder, type Sizes, type Suite } from '../suite.ts';
import { LOCAL, type Target } from '../targets.ts';
import { requestNote, untilQuiet } from '../traffic.ts';

const LATENCY_MS = 20;
const FILE_BYTES = 40 * 1024;
const LIMIT_MS = 120_000;
const listedFiles = ({ quick }: Sizes) => (quick ? 50 : 500);
const copiedFiles = ({ quick }: Sizes) => (quick ? 5 : 20);

interface Operation {
  readonly name: string;
  /** Uploads may follow later. */
  readonly writes?: true;
  /** A shell command, run in the mount; `$1` is a directory of local files. */
  readonly command: string;
}

function operations(sizes: Sizes): readonly Operation[] {
  return [
    { name: `ls -l of ${listedFiles(sizes)} files`, command: 'ls -l listed >/dev/null' },
    { name: 'the same again', command: 'ls -l listed >/dev/null' },
    { name: 'cold read', command: 'cat read.jpg >/dev/null' },
    { name: 'hot read', command: 'cat read.jpg >/dev/null' },
    { name: 'stat of a missing name', command: '! test -e missing.jpg' },
    { name: 'create (cp)', writes: true, command: 'cp "$1/one.jpg" created.jpg' },
    { name: 'overwrite', writes: true, command: 'cp "$1/one.jpg" overwritten.jpg' },
    { name: 'chmod', writes: true, command: 'chmod 600 chmod.jpg' },
    { name: 'mv of a file', writes: true, command: 'mv mv.jpg moved.jpg' },
    { name: 'rm', writes: true, command: 'rm rm.jpg' },
    { name: 'mkdir', writes: true, command: 'mkdir made' },
    { name: `cp -r of ${copiedFiles(sizes)} files`, writes: true, command: 'cp -r "$1/many" copied' },
    { name: 'rm -r of them', writes: true, command: 'rm -r copied' },
  ];
}

export const suite: Suite = {
  name: 'requests',
  title: () => `time and S3 requests of each operation, files of ${FILE_BYTES / 1024} KB, ${LATENCY_MS} ms a request`,
  defaultRounds: 2,
  minutes: 3,
  isDefault: true,
  takes: (target) => target.writable && !target.isVariant,

  async run(lab, field, options) {
    const sources = join(lab.scratch, 'sources');
    await writeFiles(sources, sourceFiles(options));
    const recorder = new Recorder();
    field.plan(options.rounds);
    for (let round = 1; round <= options.rounds; round += 1) {
      await field.each(`round ${round} of ${options.rounds}`, (target) =>
        measure(target, { lab, sources, recorder, sizes: options, signal: options.signal }),
      );
    }
    return recorder.rows;
  },
};

interface Round {
  readonly lab: Lab;
  readonly sources: string;
  readonly recorder: Recorder;
  readonly sizes: Sizes;
  readonly signal: AbortSignal;
}

/** A fresh bucket, mount and proxy, then one operation after the other. */
async function measure(target: Target, { lab, sources, recorder, sizes, signal }: Round): Promise<void> {
  const proxy = await startProxy({ upstream: lab.server.endpoint, latencyMs: LATENCY_MS });
  try {
    const mounted = await lab.mount(target, lab.dataSet(initialFiles(sizes)), proxy.endpoint);
    for (const { name, writes, command } of operations(sizes)) {
      proxy.reset();
      const script = `cd "$0" && ${command}`;
      const { elapsedMs } = await run('sh', ['-c', script, mounted.root, sources], { limitMs: LIMIT_MS, signal });
      if (target.name !== LOCAL) await untilQuiet(proxy, writes ? target.writeBackMs : 0, signal);
      const note = target.name === LOCAL ? undefined : requestNote(proxy);
      recorder.add({ name, unit: 'ms', better: 'less', headline: true }, target.name, elapsedMs, note);
    }
    await lab.unmount(mounted);
  } finally {
    await proxy.stop();
  }
}

function initialFiles(sizes: Sizes): Map<string, Uint8Array> {
  const listed = Array.from({ length: listedFiles(sizes) }, (_, i) => `listed/${i}.jpg`);
  const single = ['read', 'overwritten', 'chmod', 'mv', 'rm'].map((name) => `${name}.jpg`);
  const content = randomBytes(FILE_BYTES);
  return new Map([...listed, ...single].map((path) => [path, content]));
}

/** Local files to copy from. */
function sourceFiles(sizes: Sizes): Map<string, Uint8Array> {
  const many = Array.from({ length: copiedFiles(sizes) }, (_, i) => `many/${i}.jpg`);
  return new Map(['one.jpg', ...many].map((path) => [path, randomBytes(FILE_BYTES)]));
}
