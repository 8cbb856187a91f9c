/** Names of a large directory that are asked for in order. */
import { beforeEach, expect, test } from 'vitest';
import type { NodeId } from '../../src/base/ids.ts';
import type { Beliefs } from '../../src/freshness/beliefs.ts';
import { beliefsAt, EXPIRE_MS } from './support.ts';

const DIRECTORY = 7 as NodeId;

let nowMs: number;
let beliefs: Beliefs;

const ask = (names: string) => [...names].map((name) => beliefs.noteStep(DIRECTORY, name));

beforeEach(() => {
  nowMs = 1_000_000;
  beliefs = beliefsAt(() => nowMs);
});

test('after some of them a page of the listing is better, from behind the last one', () => {
  expect(ask('abcdef')).toEqual([undefined, undefined, undefined, undefined, 'd', 'e']);
});

test('not when they come in any order, or slowly', () => {
  expect(ask('abdcefbgh').filter(Boolean)).toEqual([]);
  ask('abcd');
  nowMs += EXPIRE_MS;
  expect(ask('e')).toEqual([undefined]);
});

test('the next page begins where the last one ended; a name before that is asked for by itself', () => {
  ask('abcde');
  beliefs.notePage(DIRECTORY, 'p', nowMs);
  expect(ask('q')).toEqual(['p']);
  beliefs.notePage(DIRECTORY, 'z', nowMs);
  expect(ask('r')).toEqual([undefined]);
});

test('a page that does not reach the name that was asked for is worth waiting longer for', () => {
  expect(ask('abcde').filter(Boolean)).toEqual(['d']);
  beliefs.noteUselessPage(DIRECTORY);
  expect(ask('fghijklmnopqrstuv').filter(Boolean)).toEqual(['t', 'u']);
  beliefs.notePage(DIRECTORY, 'w', nowMs);
  expect(ask('x')).toEqual(['w']);
});

test('who walks so is given what listings tell, for as long as they hold', () => {
  const directory = { id: DIRECTORY, listedAtMs: nowMs };
  nowMs += EXPIRE_MS;
  expect(beliefs.isBeingWalked(directory, false)).toBe(false);
  beliefs.notePage(DIRECTORY, 'p', nowMs);
  expect(beliefs.isBeingWalked(directory, false)).toBe(true);
  nowMs += EXPIRE_MS;
  expect(beliefs.isBeingWalked(directory, false)).toBe(false);
});
