/** What the workers of one mount leave to each other beside the state that outlives mounts: kept in the index. */
import type { Index } from '../index/contract.ts';
import { allRows } from '../index/pages.ts';
import type { Agreement } from '../kernel/negotiation.ts';
import type { Inheritance, Legacy } from '../kernel/session.ts';

/** `view`: the second, read-only mount point, whose opens are not recorded. */
export type Part = 'mount' | 'view';

/** A request that so many workers in a row took last before they broke down is not given to another one. */
const MAX_LAST = 2;
/** Nor is one that came again so often, whatever came after it: others may have waited beside the one that does the harm. */
const MAX_REPETITIONS = 5;
/** So many requests are counted. */
const MAX_COUNTED = 1024;

const agreementFact = (part: Part) => `kernel.agreement.${part}`;
const repetitionsFact = (part: Part) => `kernel.repetitions.${part}`;

/** For the worker that goes on with a mount. `crashes`: how many before it, in a row, broke down by themselves. */
export function inheritance(index: Index, part: Part, crashes: number): Inheritance {
  const text = index.getFact(agreementFact(part)) || undefined;
  return {
    agreement: text === undefined ? undefined : (JSON.parse(text) as Agreement),
    opens: part === 'mount' ? [...allRows(index.opens.list.bind(index.opens), ({ handle }) => handle)] : [],
    isDeadly: repetitions(index, part, crashes),
  };
}

/** For the worker that begins one: what is there belongs to a mount that has ended. */
export function disinherit(index: Index): void {
  index.transaction(() => {
    for (const part of ['mount', 'view'] as const) index.setFact(agreementFact(part), '');
    index.opens.clear();
  });
}

export function legacy(index: Index, part: Part): Legacy {
  return {
    opens: part === 'mount' ? index.opens : undefined,
    noteAgreement: (agreement) => index.setFact(agreementFact(part), JSON.stringify(agreement)),
  };
}

interface Repetitions {
  /** How often each request came again. */
  readonly counts: readonly (readonly [number, number])[];
  /** The one that came last to the worker before, and to how many workers in a row it did. */
  readonly last: number;
  readonly lastOf: number;
}

const NO_REPETITIONS: Repetitions = { counts: [], last: -1, lastOf: 0 };

/** Counts on disk how often each request came again since workers began to break down, before the request can do its harm. */
function repetitions(index: Index, part: Part, crashes: number): (key: number) => boolean {
  const isNewSeries = crashes <= 1;
  const text = isNewSeries ? '' : index.getFact(repetitionsFact(part));
  const before = text ? (JSON.parse(text) as Repetitions) : NO_REPETITIONS;
  const counts = new Map<number, number>(before.counts);
  return (key) => {
    if (crashes === 0) return false;
    const count = (counts.get(key) ?? 0) + 1;
    if (count === 1 && counts.size >= MAX_COUNTED) return false;
    counts.set(key, count);
    const wasLastOf = key === before.last ? before.lastOf : 0;
    const now: Repetitions = { counts: [...counts], last: key, lastOf: wasLastOf + 1 };
    index.setFact(repetitionsFact(part), JSON.stringify(now));
    return crashes > MAX_LAST && (wasLastOf >= MAX_LAST || count > MAX_REPETITIONS);
  };
}
