import { existsSync } from 'node:fs';
import { defineConfig } from 'vitest/config';

const GLOBAL_SETUP = 'test/support/global-setup.ts';

/**
 * Tests that mount, or that run whole programs. Each has buckets and directories of its own, and waits more than it computes: three
 * run beside each other.
 */
const MOUNTED = ['test/{mount,cli,mounted}/**/*.test.ts', 'test/**/*.mounted.test.ts'];

export default defineConfig({
  test: {
    globalSetup: existsSync(GLOBAL_SETUP) ? [GLOBAL_SETUP] : [],
    pool: 'forks',
    testTimeout: 20_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
    // One that holds ends at once: under a sanitizer, on a busy machine, later.
    expect: { poll: { timeout: 15_000 } },
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: MOUNTED,
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'mounted',
          include: MOUNTED,
          maxWorkers: 3,
          testTimeout: 120_000,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
