/** Results as they are kept: one JSON file for each suite, the latest run. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { run } from '../scripts/lib/programs.ts';
import { type Summary, summarize } from './statistics.ts';
import type { Cell, Measure, Row } from './suite.ts';

/** What every target is compared with, where it took part. */
export const REFERENCES = ['local', 's3fs', 'rclone'] as const;
export const RESULTS_DIRECTORY = new URL('./results/', import.meta.url).pathname;

export interface ResultCell extends Summary {
  readonly samples: readonly number[];
  /** What it took beside the time, e.g. requests. */
  readonly note?: string;
  /** How many times as good as the reference, by its name: above 1 is better, also where less is better. */
  readonly ratios: Readonly<Record<string, number>>;
}

export interface ResultRow extends Measure {
  readonly targets: Readonly<Record<string, ResultCell>>;
}

export interface Machine {
  readonly cpu: string | undefined;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly system: string | undefined;
  readonly localFileSystem: string;
  /** Of the minute before the run. */
  readonly loadAverageAtStart: number;
  /** How long an idle CPU of a virtual machine looks for work before it halts, and has to be woken by its host; undefined elsewhere. */
  readonly guestHaltPollNs: number | undefined;
}

export interface Result {
  readonly suite: string;
  readonly title: string;
  /** ISO 8601. */
  readonly date: string;
  readonly command: string;
  readonly rounds: number;
  readonly machine: Machine;
  readonly node: string;
  readonly targets: Readonly<Record<string, { readonly version: string; readonly options: string }>>;
  /** Why others did not take part, or not to the end. */
  readonly missing: Readonly<Record<string, string>>;
  readonly failures: Readonly<Record<string, string>>;
  readonly results: readonly ResultRow[];
}

export function toResultRow({ cells, ...measure }: Row): ResultRow {
  const targets = Object.entries(cells).map(([name, cell]) => [name, toResultCell(measure, cell, cells)]);
  return { ...measure, targets: Object.fromEntries(targets) };
}

function toResultCell({ better }: Measure, cell: Cell, cells: Row['cells']): ResultCell {
  const summary = summarize(cell.samples);
  const ratios: Record<string, number> = {};
  for (const name of REFERENCES) {
    const reference = cells[name];
    if (reference === undefined || reference === cell) continue;
    const other = summarize(reference.samples).median;
    const ratio = better === 'more' ? summary.median / other : other / summary.median;
    if (Number.isFinite(ratio)) ratios[name] = Number(ratio.toPrecision(3));
  }
  return { ...summary, ...cell, ratios };
}

/** Call it before the run: it takes the load average. `scratch`: a directory of the local disk that is compared. */
export async function describeMachine(scratch: string): Promise<Machine> {
  const { stdout } = await run('stat', ['-f', '-c', '%T', scratch]);
  const osRelease = await readFile('/etc/os-release', 'utf8').catch(() => '');
  const haltPoll = await readFile('/sys/module/haltpoll/parameters/guest_halt_poll_ns', 'utf8').catch(() => undefined);
  return {
    cpu: cpus()[0]?.model,
    cpus: cpus().length,
    memoryBytes: totalmem(),
    kernel: release(),
    system: /^PRETTY_NAME="(.*)"$/m.exec(osRelease)?.[1],
    localFileSystem: stdout.trim(),
    loadAverageAtStart: Number(loadavg()[0]?.toFixed(2)),
    guestHaltPollNs: haltPoll === undefined ? undefined : Number(haltPoll),
  };
}

/** Its path. */
export async function saveResult(result: Result, directory: string): Promise<string> {
  const path = join(directory, `${result.suite}.json`);
  await mkdir(directory, { recursive: true });
  await writeFile(path, `${JSON.stringify(result, null, 2)}\n`);
  return path;
}

/** All that are there. */
export async function loadResults(directory: string): Promise<Result[]> {
  const files = (await readdir(directory).catch(() => [])).filter((name) => name.endsWith('.json')).sort();
  return Promise.all(files.map(async (file) => JSON.parse(await readFile(join(directory, file), 'utf8')) as Result));
}
