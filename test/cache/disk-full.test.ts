/** A cache on a disk that is really full: a small tmpfs, which only root can mount. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BLOCK_BYTES } from '../../src/cache/contract.ts';
import { bytesOf, createFixture, pattern } from './support.ts';

const MIB = 1024 * 1024;
const isRoot = process.getuid?.() === 0;

describe.runIf(isRoot)('a cache directory on a full disk', () => {
  let disk: string;

  beforeAll(() => {
    disk = mkdtempSync(join(tmpdir(), 'tsfs-full-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', disk]);
  });

  afterAll(() => {
    execFileSync('umount', ['-l', disk]);
    rmSync(disk, { recursive: true });
  });

  test('blocks are refused without an error, and kept again when there is room', async () => {
    const fixture = await createFixture();
    try {
      const directory = join(disk, 'cache');
      const cache = await fixture.open({ directory });
      const ballast = join(disk, 'ballast');
      await writeFile(ballast, Buffer.alloc(6 * MIB));
      const bytes = pattern(4 * MIB);
      const content = await cache.open(fixture.allocate(), bytes.length);
      const kept: boolean[] = [];
      for (let block = 0; block < content.blockCount; block += 1) {
        kept.push(await content.put(block, bytes.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES)));
      }
      expect(kept[0]).toBe(true);
      expect(kept.at(-1)).toBe(false);
      expect(await bytesOf(await content.slice(0, BLOCK_BYTES))).toEqual(bytes.subarray(0, BLOCK_BYTES));

      rmSync(ballast);
      fixture.clock.advance(5000);
      const last = content.blockCount - 1;
      expect(await content.put(last, bytes.subarray(last * BLOCK_BYTES))).toBe(true);
    } finally {
      await fixture.dispose();
    }
  });

  test('the floor of free space is kept by evicting', async () => {
    const fixture = await createFixture();
    try {
      const cache = await fixture.open({ directory: join(disk, 'floor'), minFreeBytes: 5 * MIB });
      for (let seed = 0; seed < 20; seed += 1) {
        const content = await cache.open(fixture.allocate(), BLOCK_BYTES);
        expect(await content.put(0, pattern(BLOCK_BYTES, seed))).toBe(true);
        content.close();
        fixture.clock.advance(100);
      }
      expect(cache.usage().bytes).toBeLessThanOrEqual(3 * MIB);
      expect(cache.usage().evictedFiles).toBeGreaterThan(0);
    } finally {
      await fixture.dispose();
    }
  });
});
