/** Executes the table of semantics in the README: one check for each row, by its id. */
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { attributeChecks } from './checks/attributes.ts';
import { contentChecks } from './checks/content.ts';
import { nameChecks } from './checks/names.ts';
import { EXPIRE_SECONDS, Scene } from './checks/scene.ts';
import { sharingChecks } from './checks/sharing.ts';
import { newBucket, startServer, type TestServer } from './harness.ts';

const CHECKS = { ...contentChecks, ...nameChecks, ...attributeChecks, ...sharingChecks };
const LIMIT_MS = 60_000;

interface Row {
  readonly id: string;
  readonly operation: string;
}

const rows = parseTable(await readFile(join(import.meta.dirname, '../../README.md'), 'utf8'));

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

test('each row has a check, and each check a row', () => {
  const ids = rows.map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
  expect([...ids].sort()).toEqual(Object.keys(CHECKS).sort());
});

describe('rows', () => {
  let here: TestServer;
  let there: TestServer;
  let local: string;

  beforeAll(async () => {
    local = await mkdtemp(join(tmpdir(), 'tsfs-reference-'));
    const bucket = await newBucket();
    const options = ['allow_other', `stat_cache_expire=${EXPIRE_SECONDS}`, 'uid=0', 'gid=0', 'umask=022'];
    here = await startServer({ bucket, options });
    there = await startServer({ bucket, options });
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
