/** What a suite of the benchmark is, and what it gives back. One file of `suites/` exports one suite. */
import type { Lab } from './lab.ts';
import type { Target } from './targets.ts';

/** The measurements of one target in one row. */
export interface Cell {
  readonly samples: readonly number[];
  /** Said beside the number, e.g. the requests that it took. */
  readonly note?: string;
}

export interface Row {
  readonly name: string;
  readonly unit: 'cycles/s' | 'ms';
  readonly better: 'more' | 'less';
  /** By name of the target; a target that cannot do this is absent. */
  readonly cells: Readonly<Record<string, Cell>>;
}

export interface SuiteOptions {
  /** All targets are measured in each round, so that a change of the machine's mood hits all alike. */
  readonly rounds: number;
  readonly signal: AbortSignal;
  /** Tells the reader what is going on. */
  progress(text: string): void;
}

export interface Suite {
  readonly name: string;
  /** One line, with the conditions. */
  readonly title: string;
  readonly defaultRounds: number;
  run(lab: Lab, targets: readonly Target[], options: SuiteOptions): Promise<readonly Row[]>;
}

/** Collects samples into rows, in the order in which rows and targets come first. */
export class Recorder {
  readonly #rows = new Map<
    string,
    { row: Omit<Row, 'cells'>; cells: Map<string, { samples: number[]; note?: string }> }
  >();

  add(row: Omit<Row, 'cells'>, target: string, sample: number, note?: string): void {
    const entry = this.#rows.get(row.name) ?? { row, cells: new Map<string, { samples: number[]; note?: string }>() };
    this.#rows.set(row.name, entry);
    const cell = entry.cells.get(target) ?? { samples: [] };
    cell.samples.push(sample);
    if (note !== undefined) cell.note = note;
    entry.cells.set(target, cell);
  }

  get rows(): readonly Row[] {
    return [...this.#rows.values()].map(({ row, cells }) => ({ ...row, cells: Object.fromEntries(cells) }));
  }
}
