/** Many writers, and what is left when a daemon dies. */
import { mkdir, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { eventually, newBucket, startServer } from './harness.ts';
import { runProgram, shell } from './syscalls.ts';
import { contentOf } from './writer.ts';

const WRITERS = 4;
const FILES = Number(process.env.TSFS_TEST_FILES ?? 1000);
const RECOVERY_LIMIT_MS = 30_000;
const WRITER = join(import.meta.dirname, 'writer.ts');

test(`${FILES} small files written by ${WRITERS} processes, read by another server`, {
  timeout: 60_000 + FILES * 60,
}, async () => {
  const bucket = await newBucket();
  const [writing, reading] = [await startServer({ bucket }), await startServer({ bucket })];
  for (let i = 0; i < 10; i++) await mkdir(writing.path(String(i)));
  const each = FILES / WRITERS;
  const processes = Array.from({ length: WRITERS }, (_, writer) =>
    runProgram(process.execPath, [WRITER, writing.dir, `writer${writer}`, String(each)], {
      limitMs: 30_000 + FILES * 30,
    }),
  );
  await Promise.all(processes);
  let count = 0;
  for (let i = 0; i < 10; i++) {
    const directory = reading.path(String(i));
    for (const name of await readdir(directory)) {
      expect(await readFile(join(directory, name), 'utf8')).toBe(contentOf(name));
      count += 1;
    }
  }
  expect(count).toBe(FILES);
});

test('a remount has everything as it was', async () => {
  const server = await startServer();
  await shell(server.dir, 'mkdir -m 750 d; echo one > d/a; chmod 600 d/a; ln -s a d/l; touch -d @1000000000 d/a d');
  const listing = () => shell(server.dir, 'stat -c "%n %f %u %g %s %Y %i" d d/a; readlink d/l; cat d/l; ls -a d');
  const before = await listing();
  await server.remount();
  expect(await listing()).toBe(before);
});

test('a killed daemon: what was closed is there, what was not is uploaded by the next', async () => {
  const server = await startServer();
  await writeFile(server.path('closed'), 'closed');
  await writeFile(server.path('old'), 'old content');
  const made = await open(server.path('made'), 'w');
  await made.write('written, never closed');
  const changed = await open(server.path('old'), 'r+');
  await changed.write('NEW', 0);
  await server.kill();
  await Promise.allSettled([made.close(), changed.close()]);
  expect(await server.bucket.keys()).toEqual(['closed', 'old']);

  await server.mount();
  expect(await readFile(server.path('closed'), 'utf8')).toBe('closed');
  expect(await readFile(server.path('made'), 'utf8')).toBe('written, never closed');
  expect(await readFile(server.path('old'), 'utf8')).toBe('NEW content');
  await eventually(async () => {
    expect(await server.bucket.text('made')).toBe('written, never closed');
    expect(await server.bucket.text('old')).toBe('NEW content');
  }, RECOVERY_LIMIT_MS);
});

test('killed again and again while files are written: each close that succeeded counts', {
  timeout: 120_000,
}, async () => {
  const server = await startServer();
  const closed: string[] = [];
  for (let round = 0; round < 3; round++) {
    let isAlive = true;
    const write = async (writer: number) => {
      for (let i = 0; isAlive; i++) {
        const name = `${round}-${writer}-${i}`;
        try {
          await writeFile(server.path(name), contentOf(name));
          closed.push(name);
        } catch {
          return; // The daemon is gone.
        }
      }
    };
    const writers = [0, 1, 2].map(write);
    await eventually(async () => expect(closed.length).toBeGreaterThan(30 * (round + 1)), 30_000);
    await server.kill();
    isAlive = false;
    await Promise.all(writers);
    await server.mount();
  }
  for (const name of closed) expect(await readFile(server.path(name), 'utf8')).toBe(contentOf(name));
  for (const name of closed) expect(await server.bucket.text(name)).toBe(contentOf(name));
});

test('the cache may be removed while it is in use', async () => {
  const server = await startServer();
  for (const name of ['a', 'b', 'c']) await server.bucket.put(name, name.repeat(300_000));
  const sizes = async () => {
    const texts = await Promise.all(['a', 'b', 'c'].map((name) => readFile(server.path(name), 'utf8')));
    return texts.map((text) => text.length);
  };
  expect(await sizes()).toEqual([300_000, 300_000, 300_000]);
  await rm(server.cacheDirectory, { recursive: true });
  expect(await sizes()).toEqual([300_000, 300_000, 300_000]);
  await server.remount();
  expect(await sizes()).toEqual([300_000, 300_000, 300_000]);
  await writeFile(server.path('d'), 'still writable');
  expect((await stat(server.path('d'))).size).toBe(14);
});
