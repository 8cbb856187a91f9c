/** Every function of the native addon with any arguments: an exception or an answer, never a crash. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { fuzzRuns } from '../support/fuzz.ts';
import type { FuzzValue, Invocation } from './native-child.ts';

const CHILD = fileURLToPath(new URL('native-child.ts', import.meta.url));

const POWERS = [8, 12, 16, 31, 32, 53, 63, 64].map((bits) => 2 ** bits);
const EDGES = [0, -0, 1, -1, 0.5, Number.NaN, Infinity, -Infinity, 1e9, 1e300, ...POWERS, ...POWERS.map((n) => n - 1)];

const value: fc.Arbitrary<FuzzValue> = fc.oneof(
  fc.constantFrom<FuzzValue[]>('handle', 'stopped', 'lookalike', 'function', 'undefined', 'nothing', 'buffer', 'list'),
  fc.record({ number: fc.oneof(fc.integer(), fc.double(), fc.constantFrom(...EDGES), fc.maxSafeInteger()) }),
  fc.record({ text: fc.string({ maxLength: 50 }) }),
  fc.record({ boolean: fc.boolean() }),
);

const invocation: fc.Arbitrary<Invocation> = fc.record({
  name: fc.nat(),
  extra: fc.constantFrom(0, 0, 0, 0, 1, 5, -1, -2, -8),
  replaced: fc.array(fc.record({ at: fc.nat(20), value }), { maxLength: 3 }),
});

let child: ChildProcess | undefined;

afterAll(() => {
  child?.kill();
});

/** What became of the child: `alive`, or how it ended. */
function answer(invocations: readonly Invocation[]): Promise<string> {
  child ??= fork(CHILD, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'], serialization: 'advanced' });
  const current = child;
  return new Promise((resolve) => {
    const onExit = (code: number | null, signal: string | null) => {
      child = undefined;
      resolve(`ended: ${code ?? signal}`);
    };
    current.once('exit', onExit);
    current.once('message', (message) => {
      current.off('exit', onExit);
      resolve(String(message));
    });
    current.send(invocations as Invocation[]);
  });
}

test('any arguments', { timeout: 3_600_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(invocation, { minLength: 1, maxLength: 50 }), async (invocations) => {
      expect(await answer(invocations)).toBe('alive');
    }),
    fuzzRuns(200),
  );
});
