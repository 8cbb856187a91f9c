/** What was set on a file that was being written when all processes died comes to the bucket with its content. */
import { open, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { settledPending } from './crash-settling.ts';
import { startServer } from './harness.ts';

const SETTLE_LIMIT_MS = 60_000;
const SET_S = 1_000_000_000;

test('mode and times, whichever content, and the time of the last write', async () => {
  const server = await startServer({ direct: true });
  const startedAtS = Math.floor(Date.now() / 1000);
  const names = ['same', 'new', 'written-later'];
  for (const name of names) await writeFile(server.path(name), 'content', { mode: 0o644 });
  const files = await Promise.all(names.map((name) => open(server.path(name), 'r+')));
  const [same, changed, later] = files;
  await same?.write('content', 0);
  await changed?.write('changed', 0);
  for (const file of files) {
    await file.chmod(0o600);
    await file.utimes(SET_S, SET_S);
  }
  await later?.write('changed', 0);
  await server.kill();
  for (const file of files) await file.close().catch(() => undefined);
  await server.mount();
  await settledPending(server, SETTLE_LIMIT_MS);
  const heads = await Promise.all(names.map((name) => server.bucket.head(name)));
  expect(heads.map(({ metadata }) => Number(metadata.mode) & 0o7777)).toEqual([0o600, 0o600, 0o600]);
  const times = heads.map(({ metadata }) => Math.floor(Number(metadata.mtime)));
  expect(times.slice(0, 2)).toEqual([SET_S, SET_S]);
  expect(times[2]).toBeGreaterThanOrEqual(startedAtS);
  expect(await Promise.all(names.map((name) => server.bucket.text(name)))).toEqual(['content', 'changed', 'changed']);
  await server.umount();
});
