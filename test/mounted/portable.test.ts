/** The table of semantics with the portable driver, but for what libfuse 2 and its binding have no words for. */
import { expect, test } from 'vitest';
import { CHECKS, describeRows, ROWS } from './checks/rows.ts';

/** Rows that do not hold with this driver, and why. */
const EXCLUDED: Readonly<Record<string, string>> = {};

test('only rows that there are are excluded', () => {
  expect(Object.keys(CHECKS)).toEqual(expect.arrayContaining(Object.keys(EXCLUDED)));
});

describeRows(
  ROWS.filter(({ id }) => EXCLUDED[id] === undefined),
  ['driver=portable'],
);
