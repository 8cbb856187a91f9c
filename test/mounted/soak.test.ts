/**
 * Fault soak: a mixed load over a store of which one request in twenty goes wrong, while workers are killed. Nothing that was acknowledged may
 * be lost or wrong, no call may hang, and memory must stay flat. TSFS_SOAK_MINUTES sets how long (`npm run test:soak`: an hour).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import type { Effect, Fault } from '../support/faults.ts';
import { eventually, startServer, type TestServer } from './harness.ts';
import type { SoakReport } from './soak-load.ts';
import { runProgram } from './syscalls.ts';

const DURATION_MS = Number(process.env.TSFS_SOAK_MINUTES ?? 0.3) * 60_000;
/** What is known to be flat is only so after a while. */
const MEMORY_FROM_MS = 4 * 60_000;
const KILL_EVERY_MS = 5_000;
const SETTLE_LIMIT_MS = 180_000;
const ACTORS = 4;
const FAULTY_SHARE = 0.05;
const MEMORY_SLACK_BYTES = 24 * 1024 * 1024;

const LOAD = join(import.meta.dirname, 'soak-load.ts');
const CLI = join(import.meta.dirname, '../../src/cli/main.ts');
const OPTIONS = ['retries=1', 'connect_timeout=2', 'readwrite_timeout=3', 'stat_cache_expire=2'];

const EFFECTS: readonly (Effect | [Effect, Fault['operations']])[] = [
  { type: 'slow', latencyMs: 1000 },
  { type: 'status', status: 500, code: 'InternalError' },
  { type: 'status', status: 503, code: 'SlowDown' },
  { type: 'reset' },
  { type: 'loseAnswer' },
  { type: 'stall' },
  { type: 'stall', afterBytes: 100 },
  { type: 'truncate', afterBytes: 200 },
  // What is longer is read while it arrives, before its checksum can be known.
  { type: 'corrupt', upToBytes: 500_000 },
  [{ type: 'errorIn200', code: 'InternalError' }, ['COPY', 'COMPLETE_UPLOAD']],
];

function addFaults({ proxy }: TestServer): void {
  for (const entry of EFFECTS) {
    const [effect, operations] = Array.isArray(entry) ? entry : [entry, undefined];
    const probability = FAULTY_SHARE / EFFECTS.length;
    proxy.addFault({ effect, probability, ...(operations === undefined ? {} : { operations }) });
  }
}

const loads = new Set<ChildProcess>();

afterEach(() => {
  for (const load of loads) load.kill('SIGKILL');
  loads.clear();
});

function startLoad(...words: readonly string[]): () => Promise<SoakReport> {
  const env = { ...process.env, UV_THREADPOOL_SIZE: '16' };
  const load = spawn(process.execPath, [LOAD, ...words], { stdio: ['ignore', 'pipe', 'inherit'], env });
  loads.add(load);
  let output = '';
  load.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  return async () => {
    const closed = new Promise((resolve) => load.once('close', resolve));
    load.kill('SIGTERM');
    await closed;
    loads.delete(load);
    return JSON.parse(output.slice('started\n'.length)) as SoakReport;
  };
}

async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

/** Kills workers in the first half, each after it had time to start, and looks at the memory of one worker in the second. */
async function disturb(server: TestServer): Promise<number[]> {
  const startedAtMs = performance.now();
  const elapsedMs = () => performance.now() - startedAtMs;
  const samples: number[] = [];
  let before: number | undefined;
  while (elapsedMs() < DURATION_MS) {
    await sleep(Math.min(KILL_EVERY_MS, DURATION_MS - elapsedMs()));
    const pid = await server.workerPid();
    const isNew = pid !== before;
    before = pid;
    if (pid === undefined || isNew) continue;
    if (elapsedMs() < DURATION_MS / 2) process.kill(pid, 'SIGKILL');
    else samples.push((await residentBytes(pid)) + (await residentBytes(server.pid)));
  }
  return samples;
}

function expectFlat(samples: readonly number[]): void {
  const third = Math.floor(samples.length / 3);
  const [first, last] = [median(samples.slice(0, third)), median(samples.slice(-third))];
  console.log(`resident: ${(first / 2 ** 20).toFixed()} MiB, then ${(last / 2 ** 20).toFixed()} MiB`);
  if (DURATION_MS >= MEMORY_FROM_MS) expect(last).toBeLessThan(first * 1.15 + MEMORY_SLACK_BYTES);
}

/** The bucket has each file as it must be, or as it may be where a call on it failed; and nothing else. */
async function expectKept(server: TestServer, { files }: SoakReport): Promise<void> {
  const keys = new Set((await server.bucket.keys()).filter((key) => !key.endsWith('/')));
  const wrong: string[] = [];
  for (const [path, possible] of Object.entries(files)) {
    const found = keys.delete(path) ? digest(await server.bucket.bytes(path)) : null;
    if (!possible.includes(found)) wrong.push(`${path}: ${found ?? 'absent'}, not ${possible.join(' or ')}`);
  }
  expect(wrong).toEqual([]);
  expect([...keys]).toEqual([]);
}

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('base64');
}

test('a mixed load, one request in twenty goes wrong, workers are killed', {
  timeout: DURATION_MS + 400_000,
}, async () => {
  const server = await startServer({ options: OPTIONS });
  const other = await startServer({ bucket: server.bucket, options: OPTIONS });
  for (const each of [server, other]) addFaults(each);
  const stopWriting = startLoad('write', server.dir, String(ACTORS));
  const stopReading = startLoad('read', other.dir);
  const samples = await disturb(server);
  const [written, read] = [await stopWriting(), await stopReading()];
  for (const each of [server, other]) each.proxy.clearFaults();
  console.log(
    `${written.calls} calls ${JSON.stringify(written.errors)}, ${read.calls} reads ${JSON.stringify(read.errors)}`,
  );
  expect([...written.wrong, ...read.wrong]).toEqual([]);
  await eventually(() => runProgram(process.execPath, [CLI, 'umount', server.dir]), SETTLE_LIMIT_MS);
  await expectKept(server, written);
  expectFlat(samples);
});
