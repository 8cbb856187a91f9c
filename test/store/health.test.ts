/** When the store counts as away, and what requests meet then. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { silentLogger } from '../../src/base/log.ts';
import { StoreError, type StoreErrorKind } from '../../src/store/contract.ts';
import { HealthMonitor } from '../../src/store/health.ts';
import type { Call } from '../../src/store/wrap.ts';

const READ: Call = { operation: 'get', key: 'f', signal: undefined };
const WRITE: Call = { operation: 'put', key: 'f', signal: undefined };

let answer: StoreErrorKind | undefined;
let probes: number;
let monitor: HealthMonitor;
let attempts: number;

beforeEach(() => {
  vi.useFakeTimers();
  answer = undefined;
  probes = 0;
  attempts = 0;
  const respond = async () => {
    if (answer !== undefined) throw new StoreError(answer, 'fault');
  };
  const clock = { nowMs: () => Date.now(), monotonicMs: () => performance.now() };
  const advise = ({ kind }: StoreError) => `Do something about ${kind}.`;
  monitor = new HealthMonitor(
    () => {
      probes += 1;
      return respond();
    },
    { log: silentLogger, advise, clock },
  );
});

afterEach(() => {
  monitor.close();
  vi.useRealTimers();
});

/** The error kind, or `ok`. The attempt takes so long. */
async function ask(call: Call, kind: StoreErrorKind | undefined, ms = 0): Promise<string> {
  const result = monitor
    .around(call, async () => {
      attempts += 1;
      await new Promise((resolve) => setTimeout(resolve, ms));
      if (kind !== undefined) throw new StoreError(kind, 'fault');
    })
    .then(
      () => 'ok',
      (error: StoreError) => error.kind,
    );
  await vi.advanceTimersByTimeAsync(ms);
  return result;
}

it('three requests without an answer, over five seconds: away, and nobody waits', async () => {
  answer = 'Timeout';
  for (let i = 0; i < 3; i += 1) expect(await ask(READ, 'Timeout', 2000)).toBe('Timeout');
  expect(monitor.health()).toMatchObject({ state: 'away', lastError: { kind: 'Timeout' } });
  expect([await ask(READ, undefined), await ask(WRITE, undefined)]).toEqual(['Away', 'Away']);
  expect(attempts).toBe(3);
});

it('a short outage is not one', async () => {
  for (let i = 0; i < 20; i += 1) expect(await ask(READ, 'Transport', 100)).toBe('Transport');
  expect(monitor.health().state).toBe('degraded');
});

it('an answer to anybody, also a refusal, shows that it is there', async () => {
  for (let i = 0; i < 10; i += 1) {
    expect(await ask(READ, 'Timeout', 4000)).toBe('Timeout');
    expect(await ask(WRITE, i % 2 === 0 ? 'NotFound' : undefined)).not.toBe('Away');
  }
  expect(monitor.health().state).toBe('degraded');
});

it('is looked for, and its return is told', async () => {
  const returned = vi.fn();
  monitor.onReturn(returned);
  answer = 'Transport';
  for (let i = 0; i < 3; i += 1) await ask(READ, 'Transport', 3000);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(probes).toBeGreaterThan(5);
  expect([await ask(READ, undefined), returned.mock.calls.length]).toEqual(['Away', 0]);
  answer = 'AccessDenied';
  await vi.advanceTimersByTimeAsync(2000);
  expect([await ask(READ, undefined), returned.mock.calls.length]).toEqual(['ok', 1]);
});

it('refusals are told apart, for reading and for writing', async () => {
  for (const kind of ['QuotaExceeded', 'ClockSkew', 'NoSuchBucket', 'BadCredentials'] as const) {
    await ask(WRITE, kind);
    await ask(READ, undefined);
    expect(monitor.health()).toMatchObject({
      state: 'refusing',
      lastError: { kind, advice: `Do something about ${kind}.` },
    });
    expect(await ask(WRITE, undefined)).toBe('ok');
    expect(monitor.health().state).toBe('degraded');
  }
  await vi.advanceTimersByTimeAsync(61_000);
  expect(monitor.health().state).toBe('ok');
});

it('one forbidden key is not a forbidden bucket', async () => {
  for (let i = 0; i < 10; i += 1) {
    await ask(READ, 'AccessDenied');
    if (i % 2 === 1) await ask(READ, undefined);
    expect(monitor.health().state).toBe('degraded');
  }
  for (let i = 0; i < 3; i += 1) await ask(READ, 'AccessDenied');
  expect(monitor.health().state).toBe('refusing');
});

it('a request that was given up says nothing', async () => {
  for (let i = 0; i < 5; i += 1) expect(await ask(READ, 'Aborted', 3000)).toBe('Aborted');
  expect(monitor.health().state).toBe('ok');
});
