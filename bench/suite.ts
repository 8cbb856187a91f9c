/** What a suite of the benchmark is, and what it gives back. One file of `suites/` exports one suite. */
import type { Field } from './field.ts';
import type { Lab } from './lab.ts';
import type { Target } from './targets.ts';

export type Unit = '/s' | 'ms' | 'MB/s' | 'MiB' | 'µs' | '×' | '%';

/** One figure that is compared. */
export interface Measure {
  readonly name: string;
  readonly unit: Unit;
  readonly better: 'more' | 'less';
  /** Belongs into the short table of the README. */
  readonly headline?: true;
  /** A point of a curve: rows of one curve have the same `curve`. */
  readonly curve?: { readonly name: string; readonly at: number; readonly label: string };
}

/** The measurements of one target in one row. */
export interface Cell {
  readonly samples: readonly number[];
  /** Said beside the number, e.g. the requests that it took. */
  readonly note?: string;
}

export interface Row extends Measure {
  /** By name of the target; a target that cannot do this is absent. */
  readonly cells: Readonly<Record<string, Cell>>;
}

export interface Sizes {
  /** Small sizes: shows that a suite works, not how fast anything is. */
  readonly quick: boolean;
  /** The largest sizes too. */
  readonly full: boolean;
}

export interface SuiteOptions extends Sizes {
  /** All targets are measured in each round, so that a change of the machine's mood hits all alike. */
  readonly rounds: number;
  readonly signal: AbortSignal;
}

export interface Suite {
  readonly name: string;
  readonly defaultRounds: number;
  /** About so long with the default rounds and three peers, on two cores. */
  readonly minutes: number;
  /** Part of a run without `--suite`. */
  readonly isDefault: boolean;
  /** One line, with the conditions. */
  title(sizes: Sizes): string;
  /** Whether this target can do, and is of interest here. */
  takes(target: Target): boolean;
  /** What only this suite compares with. */
  readonly extraTargets?: readonly Target[];
  run(lab: Lab, field: Field, options: SuiteOptions): Promise<readonly Row[]>;
}

/** Collects samples into rows, in the order in which rows and targets come first. */
export class Recorder {
  readonly #rows = new Map<string, { measure: Measure; cells: Map<string, { samples: number[]; note?: string }> }>();

  add(measure: Measure, target: string, sample: number, note?: string): void {
    const entry = this.#rows.get(measure.name) ?? { measure, cells: new Map() };
    this.#rows.set(measure.name, entry);
    const cell = entry.cells.get(target) ?? { samples: [] };
    cell.samples.push(sample);
    if (note !== undefined) cell.note = note;
    entry.cells.set(target, cell);
  }

  get rows(): readonly Row[] {
    return [...this.#rows.values()].map(({ measure, cells }) => ({ ...measure, cells: Object.fromEntries(cells) }));
  }
}
