import { Beliefs } from '../../src/freshness/beliefs.ts';

export const EXPIRE_MS = 10_000;
export const NEGATIVE_MS = 1000;

/** With a clock that the test moves. */
export function beliefsAt(nowMs: () => number): Beliefs {
  const clock = { nowMs, monotonicMs: nowMs, stampMs: nowMs };
  return new Beliefs(clock, { expireMs: EXPIRE_MS, negativeMs: NEGATIVE_MS, maxNames: 10 });
}
