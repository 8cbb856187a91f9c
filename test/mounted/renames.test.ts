/** Renames that the bucket does in part: taken back, or completed in the background; never is half of one to be seen. */
import { access, mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import type { Fault } from '../support/faults.ts';
import type { S3Operation } from '../support/s3-operation.ts';
import { settledPending } from './crash-settling.ts';
import { eventually, startServer, type TestServer } from './harness.ts';

const SETTLE_LIMIT_MS = 60_000;

function refusing(operations: readonly S3Operation[], rest: Partial<Fault> = {}): Fault {
  return { effect: { type: 'status', status: 403, code: 'AccessDenied' }, operations, ...rest };
}

function failing(operations: readonly S3Operation[]): Fault {
  return { effect: { type: 'status', status: 500, code: 'InternalError' }, operations };
}

/** A directory of its own, with what is renamed. */
async function scene(
  server: TestServer,
  name: string,
): Promise<{ key: (path: string) => string; keys: () => Promise<string[]> }> {
  await mkdir(server.path(name));
  await mkdir(server.path(name, 'tree'));
  for (const file of ['file', 'tree/1', 'tree/2', 'tree/3']) await writeFile(server.path(name, file), file);
  const keys = async () =>
    (await server.bucket.keys(`${name}/`)).map((key) => key.slice(name.length + 1)).filter(Boolean);
  return { key: (path) => `${name}/${path}`, keys };
}

const TREE = ['tree/', 'tree/1', 'tree/2', 'tree/3'];

function moved(keys: readonly string[]): string[] {
  return keys.map((key) => key.replace('tree/', 'moved/'));
}

test('a file whose original cannot be deleted keeps its name', async () => {
  const server = await startServer();
  const { keys, key } = await scene(server, 's');
  server.proxy.addFault(refusing(['DELETE'], { key: key('file') }));
  await expect(rename(server.path('s', 'file'), server.path('s', 'other'))).rejects.toMatchObject({ code: 'EACCES' });
  await expect(access(server.path('s', 'other'))).rejects.toMatchObject({ code: 'ENOENT' });
  expect(await readFile(server.path('s', 'file'), 'utf8')).toBe('file');
  expect(await keys()).toEqual(['file', ...TREE]);
  server.proxy.clearFaults();
  await rename(server.path('s', 'file'), server.path('s', 'other'));
  expect(await keys()).toEqual(['other', ...TREE]);
  await server.umount();
});

test('a file whose original cannot be deleted for now is renamed', { timeout: 180_000 }, async () => {
  const server = await startServer();
  const { keys, key } = await scene(server, 's');
  server.proxy.addFault({ ...failing(['DELETE', 'DELETE_BATCH']), key: key('file') });
  await rename(server.path('s', 'file'), server.path('s', 'other'));
  expect(await keys()).toEqual(['file', 'other', ...TREE]);
  expect((await readdir(server.path('s'))).sort()).toEqual(['other', 'tree']);
  await expect(readFile(server.path('s', 'file'))).rejects.toMatchObject({ code: 'ENOENT' });
  // Not even after a crash, which leaves nothing but the intent.
  await server.kill();
  await server.mount();
  expect((await readdir(server.path('s'))).sort()).toEqual(['other', 'tree']);
  server.proxy.clearFaults();
  await settledPending(server, SETTLE_LIMIT_MS);
  expect(await keys()).toEqual(['other', ...TREE]);
  await server.umount();
});

test('a directory of which not all can be copied is taken back', async () => {
  const server = await startServer();
  const { keys, key } = await scene(server, 's');
  server.proxy.addFault(refusing(['COPY'], { key: key('moved/2') }));
  await expect(rename(server.path('s', 'tree'), server.path('s', 'moved'))).rejects.toMatchObject({ code: 'EACCES' });
  expect(await keys()).toEqual(['file', ...TREE]);
  expect((await readdir(server.path('s'))).sort()).toEqual(['file', 'tree']);
  server.proxy.clearFaults();
  await rename(server.path('s', 'tree'), server.path('s', 'moved'));
  expect(await keys()).toEqual(['file', ...moved(TREE)]);
  await server.umount();
});

test('a directory that cannot be taken back at once: nobody sees the copies', { timeout: 180_000 }, async () => {
  const server = await startServer();
  const { keys, key } = await scene(server, 's');
  server.proxy.addFault(refusing(['COPY'], { key: key('moved/2') }));
  server.proxy.addFault(failing(['DELETE', 'DELETE_BATCH']));
  await expect(rename(server.path('s', 'tree'), server.path('s', 'moved'))).rejects.toMatchObject({ code: 'EACCES' });
  expect((await keys()).length).toBeGreaterThan(5);
  expect((await readdir(server.path('s'))).sort()).toEqual(['file', 'tree']);
  await expect(readdir(server.path('s', 'moved'))).rejects.toMatchObject({ code: 'ENOENT' });
  server.proxy.clearFaults();
  await settledPending(server, SETTLE_LIMIT_MS);
  expect(await keys()).toEqual(['file', ...TREE]);
  await server.umount();
});

test('a directory whose originals cannot be deleted for now is renamed', { timeout: 180_000 }, async () => {
  const server = await startServer();
  const { keys } = await scene(server, 's');
  server.proxy.addFault(failing(['DELETE', 'DELETE_BATCH']));
  await rename(server.path('s', 'tree'), server.path('s', 'moved'));
  expect(await keys()).toEqual(['file', ...moved(TREE), ...TREE]);
  expect((await readdir(server.path('s'))).sort()).toEqual(['file', 'moved']);
  await expect(readdir(server.path('s', 'tree'))).rejects.toMatchObject({ code: 'ENOENT' });
  server.proxy.clearFaults();
  // The name is free when the originals are gone.
  await eventually(() => mkdir(server.path('s', 'tree')), SETTLE_LIMIT_MS);
  await settledPending(server, SETTLE_LIMIT_MS);
  expect(await keys()).toEqual(['file', ...moved(TREE), 'tree/']);
  await server.umount();
});

test('what another server put under the new name stays', async () => {
  const server = await startServer();
  const { keys } = await scene(server, 's');
  await server.bucket.put('s/moved/theirs', 'theirs');
  await expect(rename(server.path('s', 'tree'), server.path('s', 'moved'))).rejects.toMatchObject({
    code: 'ENOTEMPTY',
  });
  expect(await keys()).toEqual(['file', 'moved/theirs', ...TREE]);
  await server.umount();
});
