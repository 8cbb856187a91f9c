import { expect, test } from 'vitest';
import { createStampClock, isAhead } from '../../src/base/clock.ts';

const DAY_MS = 86_400_000;

function fixture(afterMs = 0) {
  const time = { nowMs: 1_700_000_000_000, monotonicMs: 0.25 };
  const ahead: number[] = [];
  const clock = createStampClock(
    { nowMs: () => time.nowMs, monotonicMs: () => time.monotonicMs },
    { afterMs, onAhead: (ms) => ahead.push(ms) },
  );
  const pass = (ms: number) => {
    time.nowMs += Math.floor(ms);
    time.monotonicMs += ms;
  };
  return { time, clock, ahead, pass };
}

test('stamps are those of the wall clock', () => {
  const { clock, time, pass, ahead } = fixture();
  expect(clock.stampMs()).toBe(time.nowMs);
  pass(1234);
  expect(clock.stampMs()).toBe(time.nowMs);
  expect(ahead).toEqual([]);
});

test('forwards, and while the machine sleeps, they follow it', () => {
  const { clock, time } = fixture();
  clock.stampMs();
  time.nowMs += DAY_MS;
  expect(clock.stampMs()).toBe(time.nowMs);
});

test('backwards they do not: time goes on, and how far they are ahead is told once', () => {
  const { clock, time, pass, ahead } = fixture();
  const before = clock.stampMs();
  time.nowMs -= DAY_MS;
  expect(clock.stampMs()).toBe(before);
  pass(500);
  expect(clock.stampMs()).toBe(before + 500);
  expect(isAhead(clock)).toBe(true);
  expect(ahead).toEqual([DAY_MS]);
  time.nowMs += DAY_MS;
  expect(clock.stampMs()).toBe(time.nowMs);
  expect(isAhead(clock)).toBe(false);
  expect(ahead).toEqual([DAY_MS, 0]);
});

test('small steps back are not worth telling', () => {
  const { clock, time, ahead } = fixture();
  const before = clock.stampMs();
  time.nowMs -= 300;
  expect(clock.stampMs()).toBe(before);
  expect(ahead).toEqual([]);
});

test('they begin after those of an earlier process', () => {
  const { clock, time, pass, ahead } = fixture(1_700_000_000_000 + DAY_MS);
  expect(clock.stampMs()).toBe(time.nowMs + DAY_MS);
  pass(10);
  expect(clock.stampMs()).toBe(time.nowMs + DAY_MS);
  expect(isAhead(clock)).toBe(true);
  expect(ahead).toEqual([DAY_MS]);
});
