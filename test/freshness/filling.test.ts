/** Directories in which many names are made are listed as a whole, and ahead of time. */
import { beforeEach, describe, expect, test } from 'vitest';
import type { NodeId } from '../../src/base/ids.ts';
import type { Beliefs } from '../../src/freshness/beliefs.ts';
import { beliefsAt, NEGATIVE_MS } from './support.ts';

const DIRECTORY = 7 as NodeId;

let nowMs: number;
let beliefs: Beliefs;

const make = (count: number) => {
  for (let i = 0; i < count; i += 1) beliefs.noteMade(DIRECTORY);
};
const listed = (listedAtMs: number) => ({ id: DIRECTORY, listedAtMs });

beforeEach(() => {
  nowMs = 1_000_000;
  beliefs = beliefsAt(() => nowMs);
});

describe('a directory is filling', () => {
  test('when several names are made in it within a second', () => {
    make(3);
    expect(beliefs.isFilling(listed(nowMs))).toBe(false);
    make(3);
    expect(beliefs.isFilling(listed(nowMs))).toBe(true);
  });

  test('for one more second, and not longer', () => {
    make(10);
    nowMs += NEGATIVE_MS;
    expect(beliefs.isFilling(listed(nowMs))).toBe(true);
    nowMs += NEGATIVE_MS;
    expect(beliefs.isFilling(listed(nowMs))).toBe(false);
  });

  test('when there are many of them for each page of its listing', () => {
    beliefs.notePages(DIRECTORY, 4, true);
    make(10);
    expect(beliefs.isFilling(listed(nowMs))).toBe(false);
    make(14);
    expect(beliefs.isFilling(listed(nowMs))).toBe(true);
  });

  test('never where nobody listed it', () => {
    make(100);
    expect(beliefs.isFilling(listed(0))).toBe(false);
  });

  test('each by itself', () => {
    make(100);
    expect(beliefs.isFilling({ id: 8 as NodeId, listedAtMs: nowMs })).toBe(false);
  });
});

test('it is listed again shortly before what is missing may not be called missing any more', () => {
  const atMs = nowMs;
  const wantsListing = (ageMs: number) => {
    nowMs = atMs + ageMs;
    make(20);
    return beliefs.wantsListingSoon(listed(atMs));
  };
  expect([0, 500, 900, 1000, 1500].map(wantsListing)).toEqual([false, false, true, false, false]);
});

test('a listing that has not ended has as many pages as the one before, at least', () => {
  beliefs.notePages(DIRECTORY, 5, true);
  beliefs.notePages(DIRECTORY, 2, false);
  make(12);
  expect(beliefs.isFilling(listed(nowMs))).toBe(false);
  beliefs.notePages(DIRECTORY, 1, true);
  expect(beliefs.isFilling(listed(nowMs))).toBe(true);
  expect(beliefs.isKnownLarge(DIRECTORY)).toBe(false);
});
