import { describe, expect, test } from 'vitest';
import { type AheadRange, ReadAhead } from '../../src/transfer/read-ahead.ts';

const MIB = 1024 * 1024;
const WINDOW_BYTES = 32 * MIB;

/** What is asked for when so many reads of this length come, in this order. */
function rangesOf(lengthBytes: number, order: readonly number[]): AheadRange[] {
  const ahead = new ReadAhead();
  return order.flatMap((number) => ahead.note(number * lengthBytes, lengthBytes, WINDOW_BYTES) ?? []);
}

/** Pairs that come the wrong way round, as from a kernel that reads ahead in parallel. */
const SWAPPED = Array.from({ length: 128 }, (_, number) => number ^ 1);

describe('a sequential reader', () => {
  test.each([64 * 1024, MIB])('with reads of %d bytes out of order is one reader', (lengthBytes) => {
    const ranges = rangesOf(lengthBytes, SWAPPED);
    // Nothing is asked for twice. What lies between two ranges was read meanwhile.
    for (const [i, { start }] of ranges.entries()) expect(start).toBeGreaterThanOrEqual(ranges[i - 1]?.end ?? 0);
    expect(ranges.at(-1)?.end).toBeGreaterThanOrEqual(128 * lengthBytes);
    expect(ranges.length).toBeLessThan(20);
  });

  test('gets a window that grows', () => {
    const sizes = rangesOf(MIB, SWAPPED).map(({ start, end }) => end - start);
    expect(sizes[0]).toBeLessThanOrEqual(2 * MIB);
    expect(Math.max(...sizes)).toBeGreaterThanOrEqual(WINDOW_BYTES / 2);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(WINDOW_BYTES);
  });
});

test('reads here and there are none', () => {
  expect(rangesOf(64 * 1024, [100, 900, 5000, 20, 700, 3000, 12_000, 400, 8000])).toEqual([]);
});
