import { existsSync } from 'node:fs';
import { defineConfig } from 'vitest/config';

const GLOBAL_SETUP = 'test/support/global-setup.ts';

/** Tests that mount, or that run whole programs: they get the machine to themselves, one file after the other. */
const MOUNTED = ['test/{mount,cli,mounted}/**/*.test.ts', 'test/**/*.mounted.test.ts'];

/** Those among them that ask what a mount does, not how soon, or after what: two beside each other. */
const BEHAVIOUR = ['test/mounted/{semantics,portable,random,applications,hostile,renames,ro-view}.test.ts'];

export default defineConfig({
  test: {
    globalSetup: existsSync(GLOBAL_SETUP) ? [GLOBAL_SETUP] : [],
    pool: 'forks',
    testTimeout: 20_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
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
          name: 'behaviour',
          include: BEHAVIOUR,
          maxWorkers: 2,
          testTimeout: 120_000,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'mounted',
          include: MOUNTED,
          exclude: BEHAVIOUR,
          fileParallelism: false,
          testTimeout: 120_000,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
