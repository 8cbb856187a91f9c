/** What each operation costs in S3 requests, which is what the provider bills, and in time where a request takes some. */
import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../scripts/lib/programs.ts';
import { formatCounts } from '../../scripts/lib/table.ts';
import { type FaultProxy, startProxy } from '../../test/support/proxy.ts';
import type { Lab } from '../lab.ts';
import { Recorder, type Suite, type SuiteOptions } from '../suite.ts';
import type { Target } from '../targets.ts';

const LATENCY_MS = 20;
const LISTED_FILES = 500;
const COPIED_FILES = 20;
const FILE_BYTES = 40 * 1024;
const LIMIT_MS = 120_000;
/** So long without a request, and an operation is over, also what it left to the background. */
const QUIET_MS = 500;
const QUIET_LIMIT_MS = 60_000;

interface Operation {
  readonly name: string;
  /** Uploads may follow later. */
  readonly writes?: true;
  /** A shell command, run in the mount; `$1` is a directory of local files. */
  readonly command: string;
}

const OPERATIONS: readonly Operation[] = [
  { name: `ls -l of ${LISTED_FILES} files`, command: 'ls -l listed >/dev/null' },
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
  { name: `cp -r of ${COPIED_FILES} files`, writes: true, command: 'cp -r "$1/many" copied' },
  { name: 'rm -r of them', writes: true, command: 'rm -r copied' },
];

export const suite: Suite = {
  name: 'requests',
  title: `S3 requests and time of each operation, files of ${FILE_BYTES / 1024} KB, ${LATENCY_MS} ms added to each request`,
  defaultRounds: 3,

  async run(lab, targets, options) {
    const sources = await makeSources(lab.scratch);
    const recorder = new Recorder();
    for (let round = 1; round <= options.rounds; round += 1) {
      for (const target of targets) {
        options.progress(`round ${round} of ${options.rounds}: ${target.name}`);
        await measure(target, { lab, sources, recorder, options });
      }
    }
    return recorder.rows;
  },
};

interface Round {
  readonly lab: Lab;
  readonly sources: string;
  readonly recorder: Recorder;
  readonly options: SuiteOptions;
}

/** A fresh bucket, mount and proxy, then one operation after the other. */
async function measure(target: Target, { lab, sources, recorder, options }: Round): Promise<void> {
  const proxy = await startProxy({ upstream: lab.gateway.endpoint, latencyMs: LATENCY_MS });
  try {
    const mounted = await lab.mount(target, initialFiles(), proxy.endpoint);
    for (const { name, writes, command } of OPERATIONS) {
      proxy.reset();
      const script = `cd "$0" && ${command}`;
      const { elapsedMs } = await run('sh', ['-c', script, mounted.root, sources], {
        limitMs: LIMIT_MS,
        signal: options.signal,
      });
      await becomeQuiet(proxy, writes ? target.writeBackMs : 0, options.signal);
      recorder.add({ name, unit: 'ms', better: 'less' }, target.name, elapsedMs, noteOf(target, proxy));
    }
    await lab.unmount(mounted);
  } finally {
    await proxy.stop();
  }
}

function noteOf(target: Target, proxy: FaultProxy): string | undefined {
  return target.name === 'local' ? undefined : formatCounts(proxy.counts());
}

async function becomeQuiet(proxy: FaultProxy, writeBackMs: number, signal: AbortSignal): Promise<void> {
  await sleep(writeBackMs, undefined, { signal });
  const deadlineMs = performance.now() + QUIET_LIMIT_MS;
  for (let before = -1; before !== proxy.requests.length && performance.now() < deadlineMs; ) {
    before = proxy.requests.length;
    await sleep(QUIET_MS, undefined, { signal });
  }
}

function initialFiles(): Map<string, Uint8Array> {
  const listed = Array.from({ length: LISTED_FILES }, (_, i) => `listed/${i}.jpg`);
  const single = ['read', 'overwritten', 'chmod', 'mv', 'rm'].map((name) => `${name}.jpg`);
  const content = randomBytes(FILE_BYTES);
  return new Map([...listed, ...single].map((path) => [path, content]));
}

/** Local files to copy from. */
async function makeSources(scratch: string): Promise<string> {
  const sources = join(scratch, 'sources');
  await mkdir(join(sources, 'many'), { recursive: true });
  await writeFile(join(sources, 'one.jpg'), randomBytes(FILE_BYTES));
  for (let i = 0; i < COPIED_FILES; i += 1) await writeFile(join(sources, 'many', `${i}.jpg`), randomBytes(FILE_BYTES));
  return sources;
}
