/** What programs see when the store fails, and what becomes of their files. */
import { open, readdir, readFile, stat, unlink, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import type { Effect } from '../support/faults.ts';
import { eventually, startServer } from './harness.ts';

const ARRIVAL_LIMIT_MS = 40_000;

const UNAVAILABLE: Effect = { type: 'status', status: 500, code: 'InternalError' };
const FORBIDDEN: Effect = { type: 'status', status: 403, code: 'AccessDenied' };
const SLOW_DOWN: Effect = { type: 'status', status: 503, code: 'SlowDown' };

function failingWith(code: string) {
  return expect.objectContaining({ code });
}

test('an upload that fails: close gives EIO, the file stays, and arrives by itself later', async () => {
  const server = await startServer({ options: ['retries=1'] });
  const release = server.proxy.addFault({ effect: UNAVAILABLE, operations: ['PUT'], key: 'f' });
  await expect(writeFile(server.path('f'), 'content')).rejects.toEqual(failingWith('EIO'));
  expect(await readFile(server.path('f'), 'utf8')).toBe('content');
  expect(await server.bucket.keys()).toEqual([]);
  release();
  await eventually(async () => expect(await server.bucket.text('f')).toBe('content'), ARRIVAL_LIMIT_MS);
});

test('an upload that is forbidden: EACCES', async () => {
  const server = await startServer();
  server.proxy.addFault({ effect: FORBIDDEN, operations: ['PUT'], key: 'f' });
  await expect(writeFile(server.path('f'), 'content')).rejects.toEqual(failingWith('EACCES'));
  await server.bucket.put('g', 'content');
  server.proxy.addFault({ effect: FORBIDDEN, operations: ['GET', 'HEAD'], key: 'g' });
  await expect(readFile(server.path('g'))).rejects.toEqual(failingWith('EACCES'));
});

test('short failures are not seen', async () => {
  const server = await startServer();
  const effects: Effect[] = [UNAVAILABLE, SLOW_DOWN, { type: 'reset' }, { type: 'truncate', afterBytes: 1000 }];
  const content = Buffer.alloc(200_000, 'content');
  for (const index of effects.keys()) await server.bucket.put(`g${index}`, content);
  for (const [index, effect] of effects.entries()) {
    const name = `f${index}`;
    server.proxy.addFault({ effect, operations: ['PUT'], times: 2 });
    await writeFile(server.path(name), content);
    expect(await server.bucket.bytes(name)).toEqual(content);
    server.proxy.addFault({ effect, operations: ['GET'], times: 2 });
    expect(await readFile(server.path(`g${index}`))).toEqual(content);
    server.proxy.clearFaults();
  }
});

test('an answer that is lost: the upload is repeated, also one that only creates', async () => {
  const server = await startServer();
  server.proxy.addFault({ effect: { type: 'loseAnswer' }, operations: ['PUT'], times: 1 });
  await writeFile(server.path('f'), 'content', { flag: 'wx' });
  expect(await server.bucket.text('f')).toBe('content');
  expect(await readFile(server.path('f'), 'utf8')).toBe('content');
});

test('without the store: cached files and known names are served, others fail, changes wait', {
  timeout: 120_000,
}, async () => {
  const server = await startServer({ options: ['stat_cache_expire=1', 'retries=0', 'connect_timeout=1'] });
  await server.bucket.put('known', 'content');
  await readFile(server.path('known'));
  await readdir(server.dir);
  await server.proxy.refuse();
  await eventually(async () => {
    // Beyond the time for which it is believed without asking.
    expect(await readFile(server.path('known'), 'utf8')).toBe('content');
    expect(await readdir(server.dir)).toEqual(['known']);
  }, 5000);
  await new Promise((resolve) => setTimeout(resolve, 1500));
  expect(await readFile(server.path('known'), 'utf8')).toBe('content');
  expect(await readdir(server.dir)).toEqual(['known']);
  await expect(stat(server.path('unknown'))).rejects.toEqual(failingWith('EIO'));
  const file = await open(server.path('known'), 'r+');
  await file.write('CON', 0);
  await expect(file.sync()).rejects.toEqual(failingWith('EIO'));
  await file.close().catch((error: NodeJS.ErrnoException) => expect(error.code).toBe('EIO'));
  await expect(unlink(server.path('known'))).rejects.toEqual(failingWith('EIO'));
  await server.proxy.accept();
  await eventually(async () => expect(await server.bucket.text('known')).toBe('CONtent'), ARRIVAL_LIMIT_MS);
});
