/** Results for people: a table for the terminal, and the short one of the README in Markdown. */
import { formatTable } from '../scripts/lib/table.ts';
import { formatNumber, formatSpread, formatValue } from './format.ts';
import { REFERENCES, type Result, type ResultRow } from './results.ts';
import { LOCAL } from './targets.ts';

/** One line for each target in each row. */
export function resultTable({ suite, title, rounds, results, failures }: Result): string {
  const references = REFERENCES.filter((name) => results.some(({ targets }) => name in targets));
  const notes = results.some(({ targets }) => Object.values(targets).some(({ note }) => note !== undefined));
  const header = ['', 'target', 'median', 'spread', ...references.map((name) => `× ${name}`)];
  const lines = results.flatMap((row) => linesOf(row, references, notes));
  const failed = Object.entries(failures).map(([name, reason]) => `${name} failed: ${reason}`);
  return [
    `${suite}: ${title}`,
    `median of ${rounds} interleaved rounds, ± half the range; ratios: how many times as good`,
    '',
    formatTable(notes ? [...header, 'requests'] : header, lines),
    ...(failed.length > 0 ? ['', ...failed] : []),
  ].join('\n');
}

function linesOf(row: ResultRow, references: readonly string[], notes: boolean): string[][] {
  return Object.entries(row.targets).map(([target, cell], index) => {
    const ratios = references.map((name) => (cell.ratios[name] === undefined ? '' : formatNumber(cell.ratios[name])));
    const line = [
      index === 0 ? row.name : '',
      target,
      formatValue(cell.median, row.unit),
      formatSpread(cell),
      ...ratios,
    ];
    return notes ? [...line, cell.note ?? ''] : line;
  });
}

/** The rows that matter most, of all suites; a column for each target. */
export function markdown(results: readonly Result[]): string {
  const [latest] = results.toSorted((a, b) => b.date.localeCompare(a.date));
  if (latest === undefined) return 'Nothing has been measured yet.';
  const rows = results.flatMap(({ suite, results: all }) =>
    all.filter(({ headline }) => headline).map((row) => ({ suite, row })),
  );
  const targets = [...new Set(rows.flatMap(({ row }) => Object.keys(row.targets)))];
  const lines = rows.map(({ suite, row }) => [
    `${suite}: ${row.name}`,
    ...targets.map((name) => markdownCell(row, name)),
  ]);
  const { machine, node } = latest;
  const versions = Object.entries(Object.assign({}, ...results.map((result) => result.targets)) as Result['targets'])
    .filter(([name]) => name !== LOCAL && !name.startsWith('tsfs-'))
    .map(([name, { version }]) => (version.startsWith(name) ? version : `${name} ${version}`));
  return [['', ...targets], ['---', ...targets.map(() => '---:')], ...lines]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .concat(
      '',
      `Medians of interleaved rounds on ${machine.cpus} × ${machine.cpu ?? 'CPU'}, ` +
        `${Math.round(machine.memoryBytes / 2 ** 30)} GiB, Linux ${machine.kernel}, ${machine.localFileSystem}, ` +
        `Node ${node}, ${latest.date.slice(0, 10)}; ${versions.join('; ')}.`,
    )
    .join('\n');
}

function markdownCell(row: ResultRow, target: string): string {
  const cell = row.targets[target];
  if (cell === undefined) return '';
  const ratio = cell.ratios[LOCAL];
  const beside = cell.note ?? (ratio === undefined || row.better === 'less' ? undefined : `${formatNumber(ratio)} ×`);
  const text = formatValue(cell.median, row.unit);
  return beside === undefined ? text : `${text} (${beside})`;
}
