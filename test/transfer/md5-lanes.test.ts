import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, expect, test, vi } from 'vitest';
import { pattern } from '../cache/support.ts';

const ADDON = process.env.TSFS_DIGEST ?? join(import.meta.dirname, '../../build/tsfs_digest.node');
const MISSING = '/nonexistent/addon.node';
const RUNS = Number(process.env.TSFS_FUZZ_RUNS ?? 200);

afterEach(() => {
  vi.unstubAllEnvs();
  vi.resetModules();
});

async function load(addon: string) {
  vi.stubEnv('TSFS_DIGEST', addon);
  vi.resetModules();
  return import('../../src/transfer/md5-lanes.ts');
}

const md5 = (bytes: Uint8Array) => createHash('md5').update(bytes).digest('hex');

test.each([ADDON, MISSING])('the same as one after the other: %s', async (addon) => {
  const { md5s } = await load(addon);
  const length = fc.oneof(fc.nat(300), fc.constantFrom(55, 56, 63, 64, 65, 119, 120, 128), fc.nat(5000));
  const lengths = fc.array(length, { minLength: 1, maxLength: 10 });
  fc.assert(
    fc.property(lengths, fc.integer({ min: 1, max: 20 }), fc.boolean(), (lengths, blocks, isEqual) => {
      const strings = lengths.map((own, i) => pattern((isEqual ? lengths[0] : own) as number, i));
      const sums = md5s(strings.length);
      const pieceBytes = blocks * 64;
      const longest = Math.max(...strings.map((string) => string.length));
      for (let done = 0; done < longest; done += pieceBytes) {
        sums.update(strings.map((string) => string.subarray(done, done + pieceBytes)));
      }
      expect(sums.digests()).toEqual(strings.map(md5));
    }),
    { numRuns: RUNS },
  );
});

test('wrong arguments are refused', () => {
  const { addBlocks } = createRequire(import.meta.url)(ADDON) as { addBlocks: (...args: unknown[]) => void };
  const state = () => new Uint32Array(4);
  const piece = new Uint8Array(64);
  const wrong: readonly (readonly unknown[])[] = [
    [],
    [[state()]],
    [{}, {}],
    [[], []],
    [[state(), state()], [piece]],
    [Array.from({ length: 9 }, state), Array.from({ length: 9 }, () => piece)],
    [[new Uint32Array(3)], [piece]],
    [[new Uint8Array(16)], [piece]],
    [[state()], [new Uint8Array(63)]],
    [[state()], [new Uint32Array(16)]],
    [[state()], ['x'.repeat(64)]],
    [
      [state(), state()],
      [piece, new Uint8Array(128)],
    ],
  ];
  for (const args of wrong) expect(() => addBlocks(...args)).toThrow(TypeError);
});
