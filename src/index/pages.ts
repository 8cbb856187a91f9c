import { INDEX_BATCH } from './contract.ts';

/** All rows of what is read page by page, in order of id. A page is read when it is asked for, so they may change and go meanwhile. */
export function* allRows<Row>(
  page: (after: number, limit: number) => readonly Row[],
  idOf: (row: Row) => number,
): Generator<Row> {
  for (let after = 0; ; ) {
    const rows = page(after, INDEX_BATCH);
    yield* rows;
    const last = rows.at(-1);
    if (last === undefined || rows.length < INDEX_BATCH) return;
    after = idOf(last);
  }
}
