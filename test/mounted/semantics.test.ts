/** Executes the table of semantics in the README: one check for each row, by its id. */
import { expect, test } from 'vitest';
import { CHECKS, describeRows, ROWS } from './checks/rows.ts';

test('each row has a check, and each check a row', () => {
  const ids = ROWS.map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
  expect([...ids].sort()).toEqual(Object.keys(CHECKS).sort());
});

describeRows(ROWS);
