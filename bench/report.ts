/** Results as a table for the terminal and as JSON for later. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { run } from '../scripts/lib/programs.ts';
import { formatMs, formatTable } from '../scripts/lib/table.ts';
import { spread, summarize } from './statistics.ts';
import type { Cell, Row, Suite } from './suite.ts';

/** What the others are compared with. */
const BASELINE = 'local';
const RESULTS = new URL('./results/', import.meta.url).pathname;

export interface Report {
  readonly suite: Suite;
  readonly rounds: number;
  readonly rows: readonly Row[];
  /** By name of the target. */
  readonly versions: Readonly<Record<string, string>>;
  readonly date: Date;
  readonly scratch: string;
}

export function printReport({ suite, rounds, rows, versions }: Report): void {
  const targets = Object.keys(versions);
  const lines = rows.map((row) => [row.name, ...targets.map((name) => formatCell(row, row.cells[name]))]);
  console.log(
    `\n${suite.name}: ${suite.title}\nmedian of ${rounds} interleaved rounds ± half the range (× ${BASELINE})\n`,
  );
  console.log(formatTable(['', ...targets], lines));
}

function formatCell(row: Row, cell: Cell | undefined): string {
  if (cell === undefined) return '–';
  const summary = summarize(cell.samples);
  const number = row.unit === 'ms' ? formatMs(summary.median) : `${Math.round(summary.median)} /s`;
  // Where requests are counted they are the figure that matters.
  if (cell.note !== undefined) return `${cell.note}, ${number}`;
  const range = cell.samples.length > 1 ? ` ±${(spread(summary) * 100).toFixed(0)}%` : '';
  const ratio = ratioToBaseline(row, cell);
  const compared = ratio === undefined || cell === row.cells[BASELINE] ? '' : ` (×${formatRatio(ratio)})`;
  return `${number}${range}${compared}`;
}

function ratioToBaseline(row: Row, cell: Cell): number | undefined {
  const baseline = row.cells[BASELINE];
  return baseline && summarize(cell.samples).median / summarize(baseline.samples).median;
}

function formatRatio(ratio: number): string {
  return ratio >= 10 ? ratio.toFixed(0) : ratio.toPrecision(2);
}

/** Writes the JSON; its path. */
export async function saveReport(report: Report): Promise<string> {
  const { suite, rounds, rows, versions, date, scratch } = report;
  const results = rows.map(({ cells, ...row }) => ({
    ...row,
    targets: Object.fromEntries(
      Object.entries(cells).map(([name, cell]) => [
        name,
        { ...summarize(cell.samples), ratio: ratioToBaseline({ ...row, cells }, cell), ...cell },
      ]),
    ),
  }));
  const document = {
    suite: suite.name,
    title: suite.title,
    date: date.toISOString(),
    rounds,
    machine: await machine(scratch),
    versions: { node: process.version, ...versions },
    results,
  };
  const path = join(RESULTS, `${suite.name}-${date.toISOString().slice(0, 19).replaceAll(':', '')}.json`);
  await mkdir(RESULTS, { recursive: true });
  await writeFile(path, `${JSON.stringify(document, null, 2)}\n`);
  return path;
}

async function machine(scratch: string): Promise<Record<string, unknown>> {
  const { stdout } = await run('stat', ['-f', '-c', '%T', scratch]);
  const osRelease = await readFile('/etc/os-release', 'utf8').catch(() => '');
  return {
    cpu: cpus()[0]?.model,
    cpus: cpus().length,
    memoryBytes: totalmem(),
    kernel: release(),
    system: /^PRETTY_NAME="(.*)"$/m.exec(osRelease)?.[1],
    localFileSystem: stdout.trim(),
  };
}
