import { afterEach, beforeEach, expect, test } from 'vitest';
import type { NodeId } from '../../src/base/ids.ts';
import { silentLogger } from '../../src/base/log.ts';
import { type WatchActions, Watches } from '../../src/freshness/watches.ts';

const EXPIRE_MS = 10_000;
const BELIEVED_MS = 60_000;
const BUSY = 16;
const MAX_DIRECTORIES = 3;
const DIRECTORY = 7 as NodeId;

let nowMs: number;
/** When each directory was listed last; undefined: it is not one page. */
let listedAtMs: Map<NodeId, number | undefined>;
let listings: NodeId[];
let distrusted: NodeId[];
let bequeathed: readonly NodeId[];
let watches: Watches;
let actions: { -readonly [K in keyof WatchActions]: WatchActions[K] };

function start(expireMs = EXPIRE_MS): Watches {
  const clock = { nowMs: () => nowMs, monotonicMs: () => nowMs };
  return new Watches(clock, silentLogger, { expireMs, maxDirectories: MAX_DIRECTORIES }, actions);
}

beforeEach(() => {
  nowMs = 1_000_000;
  listedAtMs = new Map();
  listings = [];
  distrusted = [];
  bequeathed = [];
  actions = {
    listingRemainingMs(directory) {
      if (!listedAtMs.has(directory)) return 0;
      const at = listedAtMs.get(directory);
      return at === undefined ? undefined : Math.max(0, at + EXPIRE_MS - nowMs);
    },
    async refreshDirectory(directory) {
      listings.push(directory);
      if (listedAtMs.get(directory) === undefined) return false;
      listedAtMs.set(directory, nowMs);
      return true;
    },
    distrustNames: (directory) => distrusted.push(directory),
    bequeath(directories) {
      bequeathed = directories;
      return true;
    },
  };
  watches = start();
});

afterEach(() => watches.close());

/** The answer to the last of so many lookups. */
function lookUp(count: number, directory = DIRECTORY): number {
  let believedMs = 0;
  for (let i = 0; i < count; i += 1) believedMs = watches.noteLookup(directory);
  return believedMs;
}

async function pass(ms: number): Promise<void> {
  for (const endMs = nowMs + ms; nowMs < endMs; ) {
    nowMs += EXPIRE_MS / 8;
    watches.round();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test('a directory in heavy use is believed for longer, and listed as long as it is', async () => {
  listedAtMs.set(DIRECTORY, nowMs);
  expect(lookUp(BUSY - 1)).toBe(0);
  expect(lookUp(1)).toBe(BELIEVED_MS);
  expect(bequeathed).toEqual([DIRECTORY]);
  for (let step = 0; step < 47; step += 1) {
    await pass(EXPIRE_MS / 8);
    expect(actions.listingRemainingMs(DIRECTORY)).toBeGreaterThan(0);
  }
  expect(listings.length).toBeGreaterThanOrEqual(6);
  expect(listings.length).toBeLessThanOrEqual(9);
  const before = listings.length;
  await pass(3 * EXPIRE_MS);
  expect(listings.length).toBe(before);
  expect(watches.size).toBe(0);
  expect(bequeathed).toEqual([]);
});

test('lookups keep the watch up while there are enough of them', async () => {
  listedAtMs.set(DIRECTORY, nowMs);
  lookUp(BUSY);
  await pass(BELIEVED_MS - EXPIRE_MS);
  expect(lookUp(BUSY)).toBe(BELIEVED_MS);
  await pass(2 * EXPIRE_MS);
  // The first time is over, and had enough of them.
  expect(lookUp(1)).toBe(BELIEVED_MS);
  expect(watches.remainingMs(DIRECTORY)).toBe(BELIEVED_MS);
  await pass(BELIEVED_MS - EXPIRE_MS);
  lookUp(1);
  await pass(EXPIRE_MS);
  // The second had two.
  expect(lookUp(1)).toBe(0);
  await pass(BELIEVED_MS);
  expect(watches.size).toBe(0);
});

test('seldom used, not listed, or too many: as long as the rows hold', () => {
  expect(lookUp(BUSY)).toBe(0);
  for (let id = 10; id < 10 + MAX_DIRECTORIES; id += 1) {
    listedAtMs.set(id as NodeId, nowMs);
    expect(lookUp(BUSY, id as NodeId)).toBe(BELIEVED_MS);
  }
  listedAtMs.set(DIRECTORY, nowMs);
  expect(lookUp(BUSY)).toBe(0);
});

test('who asks for short belief gets it', () => {
  watches.close();
  watches = start(100);
  listedAtMs.set(DIRECTORY, nowMs);
  expect(lookUp(10 * BUSY)).toBe(0);
});

test('a directory that outgrew one page is told to the kernel, name by name', async () => {
  listedAtMs.set(DIRECTORY, nowMs);
  lookUp(BUSY);
  listedAtMs.set(DIRECTORY, undefined);
  await pass(EXPIRE_MS / 8);
  expect(distrusted).toEqual([DIRECTORY]);
  expect(watches.size).toBe(0);
});

test('the same, when the listing finds out', async () => {
  listedAtMs.set(DIRECTORY, nowMs);
  lookUp(BUSY);
  actions.refreshDirectory = () => Promise.resolve(false);
  await pass(EXPIRE_MS);
  expect(distrusted).toEqual([DIRECTORY]);
});

test('while the store is away what was told is believed, and no more is', async () => {
  listedAtMs.set(DIRECTORY, nowMs);
  lookUp(BUSY);
  const { refreshDirectory } = actions;
  actions.refreshDirectory = () => Promise.reject(new Error('away'));
  await pass(2 * EXPIRE_MS);
  expect(distrusted).toEqual([]);
  expect(watches.size).toBe(1);
  expect(lookUp(1)).toBe(0);
  expect(watches.remainingMs(DIRECTORY)).toBe(0);
  actions.refreshDirectory = refreshDirectory;
  await pass(EXPIRE_MS / 8);
  expect(listings).toEqual([DIRECTORY]);
  expect(lookUp(1)).toBe(BELIEVED_MS);
});

test('a successor goes on', async () => {
  listedAtMs.set(DIRECTORY, nowMs - EXPIRE_MS);
  watches.inherit([DIRECTORY]);
  await pass(EXPIRE_MS / 8);
  expect(listings).toEqual([DIRECTORY]);
  await pass(BELIEVED_MS);
  expect(watches.size).toBe(0);
});

test('what cannot be bequeathed is not promised', () => {
  listedAtMs.set(DIRECTORY, nowMs);
  actions.bequeath = () => false;
  expect(lookUp(BUSY)).toBe(0);
  expect(watches.size).toBe(0);
});
