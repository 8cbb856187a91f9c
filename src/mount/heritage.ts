/** What the workers of one mount leave to each other beside the state that outlives mounts: kept in the index. */
import { INDEX_BATCH, type Index, type OpenRow } from '../index/contract.ts';
import type { Agreement } from '../kernel/negotiation.ts';
import type { Inheritance, Legacy } from '../kernel/session.ts';

const AGREEMENT_FACT = 'kernel.agreement';

/** For the worker that goes on with a mount. */
export function inheritance(index: Index): Inheritance {
  const text = index.getFact(AGREEMENT_FACT) || undefined;
  return { agreement: text === undefined ? undefined : (JSON.parse(text) as Agreement), opens: allOpens(index) };
}

/** For the worker that begins one: what is there belongs to a mount that has ended. */
export function disinherit(index: Index): void {
  index.transaction(() => {
    index.setFact(AGREEMENT_FACT, '');
    index.opens.clear();
  });
}

export function legacy(index: Index): Legacy {
  return {
    opens: index.opens,
    noteAgreement: (agreement) => index.setFact(AGREEMENT_FACT, JSON.stringify(agreement)),
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
