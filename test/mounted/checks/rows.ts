/** The table of semantics in the README as tests: one for each row, by its id. */
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { newBucket, startServer, type TestServer } from '../harness.ts';
import { attributeChecks } from './attributes.ts';
import { contentChecks } from './content.ts';
import { nameChecks } from './names.ts';
import { type Check, EXPIRE_SECONDS, Scene } from './scene.ts';
import { sharingChecks } from './sharing.ts';

export const CHECKS: Readonly<Record<string, Check>> = {
  ...contentChecks,
  ...nameChecks,
  ...attributeChecks,
  ...sharingChecks,
};

const LIMIT_MS = 60_000;

export interface Row {
  readonly id: string;
  readonly operation: string;
}

export const ROWS = parseTable(await readFile(join(import.meta.dirname, '../../../README.md'), 'utf8'));

/** Rows of the section `## Semantics`: `| id | operation | what tsfs does | as ext4 |`. */
function parseTable(readme: string): Row[] {
  const section = readme.split(/^## /m).find((part) => part.startsWith('Semantics\n'));
  if (section === undefined) throw new Error('the README has no section "Semantics"');
  const lines = section.split('\n').filter((line) => /^\| `/.test(line));
  return lines.map((line) => {
    const [, id = '', operation = '', ...rest] = line.split(/(?<!\\)\|/).map((cell) => cell.trim());
    if (rest.length !== 3) throw new Error(`not a row of four cells: ${line}`);
    return { id: id.replaceAll('`', ''), operation };
  });
}

/** Two servers that mount one bucket with these options besides the usual ones, and a test for each row. */
export function describeRows(rows: readonly Row[], options: readonly string[] = []): void {
  describe('rows', () => {
    let here: TestServer;
    let there: TestServer;
    let local: string;

    beforeAll(async () => {
      local = await mkdtemp(join(tmpdir(), 'tsfs-reference-'));
      const bucket = await newBucket();
      const all = [
        ...['allow_other', `stat_cache_expire=${EXPIRE_SECONDS}`, 'uid=0', 'gid=0', 'umask=022'],
        ...options,
      ];
      here = await startServer({ bucket, options: all });
      there = await startServer({ bucket, options: all });
    });

    afterAll(() => rm(local, { recursive: true }));

    for (const { id, operation } of rows) {
      test(`${id}: ${operation}`, { timeout: LIMIT_MS }, async () => {
        const check = CHECKS[id];
        if (check === undefined) throw new Error('no check for this row');
        const scene = new Scene(id, here, there, local);
        await Promise.all([mkdir(scene.dir, { mode: 0o755 }), mkdir(scene.local, { mode: 0o755 })]);
        await check(scene);
      });
    }
  });
}
