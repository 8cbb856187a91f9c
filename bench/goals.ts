/** What is to be reached, figure by figure, and `--check`: what the results say of it. */
import { formatTable } from '../scripts/lib/table.ts';
import { formatNumber } from './format.ts';
import type { Result, ResultRow } from './results.ts';

interface Goal {
  readonly figure: string;
  readonly suite: string;
  readonly atLeast: number;
  /** How many times as good as what it is compared with; undefined where something was not measured. */
  readonly reached: (rows: Rows) => number | undefined;
}

/** The rows of one suite. */
class Rows {
  readonly #rows: readonly ResultRow[];

  constructor(rows: readonly ResultRow[]) {
    this.#rows = rows;
  }

  /** Medians of two targets in one row. */
  ratio(row: RegExp, target: string, reference: string): number | undefined {
    return this.quotient([row, target], [row, reference]);
  }

  /** Of two medians in any rows, so that more is better. */
  quotient(one: readonly [RegExp, string], other: readonly [RegExp, string]): number | undefined {
    const [a, b] = [this.#find(...one), this.#find(...other)];
    if (a === undefined || b === undefined) return undefined;
    const ratio = a.row.better === 'more' ? a.median / b.median : b.median / a.median;
    return Number.isFinite(ratio) ? ratio : undefined;
  }

  median(row: RegExp, target: string): number | undefined {
    return this.#find(row, target)?.median;
  }

  /** The least of the ratios with each reference; undefined unless one is there. */
  worst(row: RegExp, targets: readonly string[], reference: string): number | undefined {
    const ratios = targets.map((target) => this.ratio(row, target, reference)).filter((ratio) => ratio !== undefined);
    return ratios.length === 0 ? undefined : Math.min(...ratios);
  }

  #find(pattern: RegExp, target: string): { row: ResultRow; median: number } | undefined {
    const row = this.#rows.find(({ name }) => pattern.test(name));
    const median = row?.targets[target]?.median;
    return row === undefined || median === undefined ? undefined : { row, median };
  }
}

const READ_ONLY = ['tsfs-ro', 'tsfs-ro_view'];
const ONE_CLIENT = /^1 client$/;
const LATENCY_MS = 20;
const MEMORY_MIB = 200;
/** Two medians within so much of each other are the same. */
const FLAT = 0.8;

const GOALS: readonly Goal[] = [
  goal('hot cycle, rw, 1 client, of local', 'hot', 0.35, (rows) => rows.ratio(ONE_CLIENT, 'tsfs', 'local')),
  goal('hot cycle, rw, 1 client, of s3fs', 'hot', 60, (rows) => rows.ratio(ONE_CLIENT, 'tsfs', 's3fs')),
  goal('hot cycle, rw, 1 client, of rclone', 'hot', 25, (rows) => rows.ratio(ONE_CLIENT, 'tsfs', 'rclone')),
  goal('hot cycle, ro and ro_view, of local', 'hot', 0.85, (rows) => rows.worst(ONE_CLIENT, READ_ONLY, 'local')),
  goal('sleep of the daemon while ro is read hot', 'hot', 0.99, (rows) => {
    const cpuUs = rows.median(/^CPU .* 1 client$/, 'tsfs-ro');
    const perSecond = rows.median(ONE_CLIENT, 'tsfs-ro');
    return cpuUs === undefined || perSecond === undefined ? undefined : 1 - (cpuUs * perSecond) / 1e6;
  }),
  goal('hot cycle, rw, of what FUSE allows', 'floor', 0.9, (rows) => rows.ratio(/cycles/, 'tsfs', 'stub, awake')),
  goal('hot cycle, ro, of what FUSE allows', 'floor', 0.9, (rows) => rows.worst(/cycles/, READ_ONLY, 'stub, no opens')),
  goal('hot stat, of local', 'stat', 0.8, (rows) => rows.worst(ONE_CLIENT, ['tsfs', ...READ_ONLY], 'local')),
  goal('nginx, rw, of local', 'nginx', 0.8, (rows) => rows.ratio(/^requests$/, 'tsfs', 'local')),
  goal('nginx, ro and ro_view, of local', 'nginx', 0.95, (rows) => rows.worst(/^requests$/, READ_ONLY, 'local')),
  goal('sequential cold read, of the bare SDK', 'sequential', 0.9, (rows) =>
    rows.ratio(/read, cold/, 'tsfs', 'bare SDK'),
  ),
  goal('sequential cold read, of s3fs', 'sequential', 1.5, (rows) => rows.ratio(/read, cold/, 'tsfs', 's3fs')),
  goal('sequential hot read, of local', 'sequential', 0.9, (rows) => rows.ratio(/read, hot/, 'tsfs', 'local')),
  goal('write calls, of local', 'sequential', 0.7, (rows) => rows.ratio(/write, calls/, 'tsfs', 'local')),
  goal('close after it, of the bare SDK', 'sequential', 1 / 1.15, (rows) =>
    rows.ratio(/until stored/, 'tsfs', 'bare SDK'),
  ),
  // Who waits for two is slower than half of one.
  goal('create, 1 writer, of a round trip of 20 ms: it is one', 'small-files', 0.5, (rows) => {
    const perSecond = rows.median(/^create, 1 writer, 20 ms/, 'tsfs');
    return perSecond === undefined ? undefined : perSecond / (1000 / LATENCY_MS);
  }),
  goal('create, 16 writers, of 1 writer', 'small-files', 12, (rows) =>
    rows.quotient([/^create, 16 writers, 20 ms/, 'tsfs'], [/^create, 1 writer, 20 ms/, 'tsfs']),
  ),
  goal('create, 16 writers, of s3fs', 'small-files', 8, (rows) => rows.ratio(/^create, 16 .*20 ms/, 'tsfs', 's3fs')),
  goal('rm -r, of s3fs', 'small-files', 20, (rows) => rows.ratio(/^rm -r, 20 ms/, 'tsfs', 's3fs')),
  goal('ls -l of 1,000, cold, of s3fs', 'list', 8, (rows) => rows.ratio(/^1000 files, cold/, 'tsfs', 's3fs')),
  goal('ls -l of 100,000, hot, of local', 'list', 0.5, (rows) => rows.ratio(/^10{4,} files, hot/, 'tsfs', 'local')),
  goal(`memory of 1 M objects within ${MEMORY_MIB} MiB`, 'scale', 1, (rows) => {
    const used = rows.median(/^memory .*1 M /, 'tsfs');
    return used === undefined ? undefined : MEMORY_MIB / used;
  }),
  goal('memory of 100 k, of that of 1 M', 'scale', FLAT, (rows) =>
    rows.quotient([/^memory .*1 M /, 'tsfs'], [/^memory .*100 k /, 'tsfs']),
  ),
];

function goal(figure: string, suite: string, atLeast: number, reached: Goal['reached']): Goal {
  return { figure, suite, atLeast, reached };
}

/** A table, and whether nothing that was measured falls short. */
export function check(results: readonly Result[]): { readonly text: string; readonly isMet: boolean } {
  const bySuite = new Map(results.map((result) => [result.suite, new Rows(result.results)]));
  const judged = GOALS.map(({ figure, suite, atLeast, reached }) => {
    const rows = bySuite.get(suite);
    const value = rows && reached(rows);
    const verdict = value === undefined ? 'not measured' : value >= atLeast ? 'pass' : 'SHORT';
    return { line: [figure, formatNumber(atLeast), value === undefined ? '' : formatNumber(value), verdict], verdict };
  });
  return {
    text: formatTable(
      ['at least so many times as good', 'goal', 'reached', ''],
      judged.map(({ line }) => line),
    ),
    isMet: judged.every(({ verdict }) => verdict !== 'SHORT'),
  };
}
