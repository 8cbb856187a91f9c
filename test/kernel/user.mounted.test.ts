import { execFile } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';

const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
const SUPPORT = 'test/kernel/support';
const LIMIT_MS = 30_000;
const NOBODY = 65534;

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'tsfs-user-'));
  for (const name of ['device', 'scratch', 'mount', 'foreign']) mkdirSync(join(root, name));
  chmodSync(root, 0o755);
  for (const name of ['scratch', 'mount']) chownSync(join(root, name), NOBODY, NOBODY);
});

afterEach(() => rmSync(root, { recursive: true }));

/** Mounts live in the namespace of the command, so none can be left behind. */
async function asNobody(mountPoint: string, ...more: string[]): Promise<Record<string, unknown>> {
  const program = [process.execPath, CHECKOUT, join(SUPPORT, 'user-mount.ts')];
  const args = [join(root, 'device'), ...program, join(root, 'scratch'), join(root, mountPoint), ...more];
  const { stdout } = await promisify(execFile)('sh', [join(CHECKOUT, SUPPORT, 'as-nobody.sh'), ...args], {
    timeout: LIMIT_MS,
    killSignal: 'SIGKILL',
  });
  return JSON.parse(stdout) as Record<string, unknown>;
}

test('a normal user mounts, uses and unmounts through fusermount3', async () => {
  expect(await asNobody('mount')).toEqual({
    stdout: `hello\n${NOBODY}\n`,
    source: 'a,b\\c d',
    type: 'fuse.tsfs',
    // Registering backing files needs CAP_SYS_ADMIN: all content went through the daemon.
    passthrough: 'failed: EPERM',
    refused: expect.stringContaining('is in use'),
    end: { reason: 'unmounted' },
  });
});

test('what a normal user may not do is said in one sentence', async () => {
  expect(await asNobody('foreign')).toEqual({
    error: expect.stringContaining('must be a directory that you may write to'),
  });
  expect(await asNobody('missing')).toEqual({ error: expect.stringContaining('does not exist; create it first') });
  expect(await asNobody('mount', 'allow_other')).toEqual({ error: expect.stringContaining('user_allow_other') });
});
