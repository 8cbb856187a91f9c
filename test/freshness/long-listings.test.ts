/** Directories whose listing takes longer than what it tells would hold. */
import { beforeEach, expect, test } from 'vitest';
import type { NodeId } from '../../src/base/ids.ts';
import type { Beliefs } from '../../src/freshness/beliefs.ts';
import { beliefsAt, EXPIRE_MS } from './support.ts';

const DIRECTORY = 7 as NodeId;
const STARTED_MS = 1_000_000;

let nowMs: number;
let beliefs: Beliefs;

const row = (validatedAtMs: number, parent = DIRECTORY) =>
  ({ id: 8 as NodeId, parent, kind: 'file', dirty: false, validatedAtMs }) as const;

function listUntil(endMs: number): void {
  for (nowMs = STARTED_MS; nowMs < endMs; nowMs += 1000) beliefs.noteListing(DIRECTORY, STARTED_MS);
  nowMs = endMs;
  beliefs.noteListing(DIRECTORY, STARTED_MS);
}

beforeEach(() => {
  nowMs = STARTED_MS;
  beliefs = beliefsAt(() => nowMs);
});

test('what it told is believed as long as it runs, and twice as long again', () => {
  listUntil(STARTED_MS + 20_000);
  expect(beliefs.remainingMs(row(STARTED_MS))).toBe(40_000);
  expect(beliefs.isListingFresh({ id: DIRECTORY, listedAtMs: STARTED_MS })).toBe(true);
  nowMs += 40_000;
  expect(beliefs.remainingMs(row(STARTED_MS))).toBe(0);
  expect(beliefs.isListingFresh({ id: DIRECTORY, listedAtMs: STARTED_MS })).toBe(false);
});

test('what was asked for by itself, in another directory, or by another listing expires as ever', () => {
  listUntil(STARTED_MS + 20_000);
  expect(beliefs.remainingMs(row(STARTED_MS + 5_000))).toBe(0);
  expect(beliefs.remainingMs(row(STARTED_MS, 9 as NodeId))).toBe(0);
  expect(beliefs.remainingMs(row(nowMs))).toBe(EXPIRE_MS);
});

test('a short one changes nothing, and a very long one has an end', () => {
  listUntil(STARTED_MS + 3_000);
  expect(beliefs.remainingMs(row(STARTED_MS))).toBe(EXPIRE_MS - 3_000);
  listUntil(STARTED_MS + 500_000);
  expect(beliefs.remainingMs(row(STARTED_MS))).toBe(100_000);
});
