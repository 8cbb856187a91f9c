/** What the workers of one mount leave to each other beside the state that outlives mounts: kept in the index. */
import { INDEX_BATCH, type Index, type OpenRow } from '../index/contract.ts';
import type { Agreement } from '../kernel/negotiation.ts';
import type { Inheritance, Legacy } from '../kernel/session.ts';

/** `view`: the second, read-only mount point, whose opens are not recorded. */
export type Part = 'mount' | 'view';

/** A request that came again so often, while the workers that had taken it broke down, is not given to another one. */
const MAX_REPETITIONS = 2;
/** So many requests are counted. */
const MAX_COUNTED = 1024;

const agreementFact = (part: Part) => `kernel.agreement.${part}`;
const repetitionsFact = (part: Part) => `kernel.repetitions.${part}`;

/** For the worker that goes on with a mount. `crashes`: how many before it, in a row, broke down by themselves. */
export function inheritance(index: Index, part: Part, crashes: number): Inheritance {
  const text = index.getFact(agreementFact(part)) || undefined;
  return {
    agreement: text === undefined ? undefined : (JSON.parse(text) as Agreement),
    opens: part === 'mount' ? allOpens(index) : [],
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

/** Counts on disk how often each request came again since workers began to break down, before the request can do its harm. */
function repetitions(index: Index, part: Part, crashes: number): (key: number) => boolean {
  const isNewSeries = crashes <= 1;
  const text = isNewSeries ? '' : index.getFact(repetitionsFact(part));
  const counts = new Map<number, number>(text ? (JSON.parse(text) as [number, number][]) : []);
  return (key) => {
    if (crashes === 0) return false;
    const count = (counts.get(key) ?? 0) + 1;
    if (count === 1 && counts.size >= MAX_COUNTED) return false;
    counts.set(key, count);
    index.setFact(repetitionsFact(part), JSON.stringify([...counts]));
    return crashes > MAX_REPETITIONS && count > MAX_REPETITIONS;
  };
}

function allOpens(index: Index): OpenRow[] {
  const rows: OpenRow[] = [];
  for (;;) {
    const page = index.opens.list(rows.at(-1)?.handle ?? 0, INDEX_BATCH);
    rows.push(...page);
    if (page.length < INDEX_BATCH) return rows;
  }
}
