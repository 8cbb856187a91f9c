/** The native part under the sanitizers, without mounts. `npm run test:sanitize` does the rest. */
import { expect, test } from 'vitest';
import { runUnder } from './sanitizer.ts';

const PARTS = [
  'test/kernel/session.test.ts',
  'test/kernel/malformed.test.ts',
  'test/fuzz/native.test.ts',
  'test/transfer/md5-lanes.test.ts',
];
const RUNS = '300';

test.each(['address', 'thread'] as const)('nothing is found: %s', { timeout: 240_000 }, async (sanitizer) => {
  process.env.TSFS_FUZZ_RUNS ??= RUNS;
  const { status, output, reports } = await runUnder(sanitizer, 'tests', ['--project', 'unit', ...PARTS], 120_000);
  expect(reports).toBe('');
  expect(status, output).toBe(0);
});
