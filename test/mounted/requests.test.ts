/** What each operation costs: requests to the store, counted on the way. */
import {
  chmod,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rmdir,
  stat,
  symlink,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import type { S3Operation } from '../support/s3-operation.ts';
import { eventually, newBucket, startServer, type TestServer } from './harness.ts';
import { runProgram, syscalls } from './syscalls.ts';

const LIMIT_MS = 60_000;

/** What is done behind the caller's back has been asked for by then. */
const BACKGROUND_MS = 150;

/** For the bucket to have done what a burst of unlinks left to it. */
const BURST_LIMIT_MS = 20_000;

/** Names that were missing are asked for again. */
const NEGATIVE_MS = 1100;

type Requests = Partial<Record<S3Operation, number>>;

async function requestsOf(server: TestServer, action: () => Promise<unknown>): Promise<Requests> {
  server.resetRequests();
  await action();
  await sleep(BACKGROUND_MS);
  return server.requests();
}

/** Some at a time. */
async function putAll(names: readonly string[], put: (name: string) => Promise<unknown>): Promise<void> {
  for (let at = 0; at < names.length; at += 20) await Promise.all(names.slice(at, at + 20).map(put));
}

function total(requests: Requests): number {
  return Object.values(requests).reduce((sum, count) => sum + count, 0);
}

describe('reading', { timeout: LIMIT_MS }, () => {
  test('a cold open and read of a small file is one GET, a hot one nothing', async () => {
    const server = await startServer();
    await server.bucket.put('a.txt', 'content of a');
    await server.bucket.put('d/b.txt', 'content of b');
    await server.bucket.put('d/c.txt', 'content of c');

    expect(await requestsOf(server, () => readFile(server.path('a.txt')))).toEqual({ GET: 1 });
    expect(await requestsOf(server, () => readFile(server.path('a.txt')))).toEqual({});

    await readFile(server.path('d/b.txt'));
    expect(await requestsOf(server, () => readFile(server.path('d/c.txt')))).toEqual({ GET: 1 });
    const script = 'open 0 c.txt r 0\nfstat 0 size\nread 0 100\nclose 0\nstat c.txt size';
    expect(await requestsOf(server, () => syscalls(server.path('d'), script.repeat(1)))).toEqual({});
  });

  test('after a remount a hot file costs no more than the request that revalidates it', async () => {
    const server = await startServer({ options: ['stat_cache_expire=1'] });
    await server.bucket.put('a.txt', 'content');
    await readFile(server.path('a.txt'));
    await server.remount();
    await sleep(1100);
    const requests = await requestsOf(server, () => readFile(server.path('a.txt'), 'utf8'));
    expect(requests.GET ?? 0).toBe(0);
    expect(total(requests)).toBeLessThanOrEqual(1);
  });

  test('a missing name is asked for with two requests at most, and then believed missing for a while', async () => {
    const server = await startServer({ options: ['negative_timeout=30'] });
    const look = () =>
      stat(server.path('missing')).catch((error: NodeJS.ErrnoException) => expect(error.code).toBe('ENOENT'));
    expect(total(await requestsOf(server, look))).toBeLessThanOrEqual(2);
    expect(await requestsOf(server, look)).toEqual({});
  });

  test('a listing of 1000 files is one LIST, and nobody waits for their metadata', async () => {
    const server = await startServer();
    const names = Array.from({ length: 1000 }, (_, index) => `file-${index}`);
    await putAll(names, (name) => server.bucket.put(name, 'x', { metadata: { mode: '33152' } }));
    server.resetRequests();
    expect(await readdir(server.dir)).toHaveLength(1000);
    expect(server.requests()).toEqual({ LIST: 1 });

    // The store does not answer any HEAD: `ls -l` must not need one.
    const release = server.proxy.addFault({ effect: { type: 'stall' }, operations: ['HEAD'] });
    const { output } = await runProgram('ls', ['-l', server.dir]);
    expect(output.match(/file-/g)).toHaveLength(1000);
    expect(server.requests()).toMatchObject({ LIST: 1 });
    expect(server.requests()).not.toHaveProperty('GET');
    release();
  });

  test('the metadata of listed files follow in the background', async () => {
    const server = await startServer();
    for (const name of ['a', 'b', 'c']) await server.bucket.put(name, 'x', { metadata: { mode: '33152' } });
    await runProgram('ls', ['-l', server.dir]);
    const modes = () => Promise.all(['a', 'b', 'c'].map(async (name) => (await stat(server.path(name))).mode & 0o777));
    await eventually(async () => expect(await modes()).toEqual([0o600, 0o600, 0o600]), 10_000);
    expect(await requestsOf(server, modes)).toEqual({});
  });

  test('nor need anybody look again for that, and of names alone nobody asks for them', async () => {
    const server = await startServer();
    const names = Array.from({ length: 300 }, (_, index) => `file-${index}`);
    await Promise.all(names.map((name) => server.bucket.put(name, 'x', { metadata: { mode: '33152' } })));
    await readdir(server.dir);
    await sleep(1000);
    expect(server.requests()).not.toHaveProperty('HEAD');
    await server.remount();
    server.resetRequests();
    await runProgram('ls', ['-l', server.dir]);
    await eventually(async () => expect(server.requests()).toMatchObject({ HEAD: names.length }), BURST_LIMIT_MS);
  });

  test('who waits for the metadata of each file of a directory waits for few', async () => {
    const server = await startServer();
    const names = Array.from({ length: 200 }, (_, index) => `file-${index}`);
    const xattr = encodeURIComponent(JSON.stringify({ 'user.a': 'AAE=' }));
    await Promise.all(names.map((name) => server.bucket.put(name, 'x', { metadata: { xattr } })));
    const listed = await readdir(server.dir);
    server.resetRequests();
    server.proxy.setLatencyMs(20);
    const script = listed.map((name) => `lstat ${name} size\nlistxattr ${name}`).join('\n');
    const answers = await syscalls(server.dir, script);
    expect(answers.filter((_, i) => i % 2 === 1)).toEqual(listed.map(() => expect.stringContaining('user.a')));
    expect(server.requests()).toEqual({ HEAD: names.length });
    expect(server.proxy.maxInFlight).toBeGreaterThan(8);
  });
});

describe('a directory of several pages', { timeout: LIMIT_MS }, () => {
  const names = Array.from({ length: 1500 }, (_, index) => `file-${String(index).padStart(4, '0')}`);

  async function startLarge(): Promise<TestServer> {
    const server = await startServer({ options: ['stat_cache_expire=2'] });
    await putAll(names, (name) => server.bucket.put(name, 'x'));
    return server;
  }

  const lookAt = ({ dir }: TestServer, walked: readonly string[]) =>
    syscalls(dir, walked.map((name) => `lstat ${name} size`).join('\n'));

  test('costs a LIST for each page when it is walked after its listing has expired', async () => {
    const server = await startLarge();
    expect(await readdir(server.dir)).toEqual(names);
    await sleep(2500);
    await server.bucket.put('file-0700', 'changed');
    await server.bucket.delete('file-0800');
    server.resetRequests();
    const expected = names.map((name) => (name === 'file-0700' ? '7' : name === 'file-0800' ? 'ENOENT' : '1'));
    expect(await lookAt(server, names)).toEqual(expected);
    const { HEAD = 0, LIST = 0, ...others } = server.requests();
    expect(others).toEqual({});
    expect(HEAD).toBeLessThan(200);
    expect(LIST).toBeLessThan(20);

    await sleep(2500);
    const effect = { type: 'status', status: 403, code: 'AccessDenied' } as const;
    server.proxy.addFault({ effect, operations: ['LIST'] });
    server.resetRequests();
    // Whether the missing name is a directory only a listing tells.
    expect(await lookAt(server, names)).toEqual(expected.map((size) => size.replace('ENOENT', 'EACCES')));
    expect(server.requests().LIST).toBeLessThan(100);
  });

  test('is listed again when to empty it takes longer than that, in another order', async () => {
    const server = await startLarge();
    server.proxy.addFault({ effect: { type: 'slow', latencyMs: 20 } });
    expect(await readdir(server.dir)).toEqual(names);
    server.resetRequests();
    await syscalls(
      server.dir,
      names
        .toReversed()
        .map((name) => `unlink ${name}\nsleep 2`)
        .join('\n'),
    );
    await eventually(async () => expect(await server.bucket.keys()).toEqual([]), BURST_LIMIT_MS);
    const { HEAD = 0, LIST = 0 } = server.requests();
    expect(LIST).toBeGreaterThan(0);
    expect(HEAD).toBeLessThan(200);
  });

  test('is believed for longer where its listing takes long, in whatever order it is walked', async () => {
    const server = await startLarge();
    server.proxy.addFault({ effect: { type: 'slow', latencyMs: 1000 }, operations: ['LIST', 'HEAD'] });
    expect(await readdir(server.dir)).toEqual(names);
    server.resetRequests();
    // A second for each name would be too long.
    expect(await lookAt(server, names.toReversed())).toEqual(names.map(() => '1'));
    expect(server.requests().LIST ?? 0).toBe(0);
  });
});

describe('changing', { timeout: LIMIT_MS }, () => {
  let server: TestServer;

  beforeAll(async () => {
    server = await startServer({ bucket: await newBucket(), options: ['stat_cache_expire=60', 'negative_timeout=60'] });
  });

  /** A new directory that was listed just now, so that each of its names is known. */
  async function listedDirectory(name: string): Promise<(file: string) => string> {
    await mkdir(server.path(name));
    await readdir(server.path(name));
    return (file) => server.path(name, file);
  }

  test('create, write and close: one PUT', async () => {
    const path = await listedDirectory('create');
    expect(await requestsOf(server, () => writeFile(path('a'), 'content'))).toEqual({ PUT: 1 });
    expect(await requestsOf(server, () => readFile(path('a')))).toEqual({});
  });

  test('in a directory that is not listed: the questions for the missing name, and one PUT', async () => {
    const other = await startServer();
    const { PUT, ...questions } = await requestsOf(other, () => writeFile(other.path('a'), 'content'));
    expect(PUT).toBe(1);
    expect(total(questions)).toBeLessThanOrEqual(2);
  });

  test('in a directory of more than a page: one question for the missing name, and one PUT', async () => {
    const server = await startServer();
    const names = Array.from({ length: 1100 }, (_, index) => `d/${index}`);
    await putAll(names, (name) => server.bucket.put(name, ''));
    await readdir(server.path('d'));
    await sleep(NEGATIVE_MS);
    expect(await requestsOf(server, () => writeFile(server.path('d/new'), 'x'))).toEqual({ LIST: 1, PUT: 1 });

    await server.bucket.put('d/behind', 'made elsewhere');
    await server.bucket.put('d/below/it', 'made elsewhere, too');
    await sleep(NEGATIVE_MS);
    expect(await readFile(server.path('d/behind'), 'utf8')).toBe('made elsewhere');
    expect(await readFile(server.path('d/below/it'), 'utf8')).toBe('made elsewhere, too');
  });

  test('overwrite: one PUT; with the bytes that it has: nothing', async () => {
    const path = await listedDirectory('overwrite');
    await writeFile(path('a'), 'content');
    expect(await requestsOf(server, () => writeFile(path('a'), 'other'))).toEqual({ PUT: 1 });
    expect(await requestsOf(server, () => writeFile(path('a'), 'other'))).toEqual({});
  });

  test('attributes that are set while a file is written go along with it', async () => {
    const path = await listedDirectory('fold');
    const write = async () => {
      const file = await open(path('a'), 'w');
      await file.write('content');
      await file.chmod(0o600);
      await file.utimes(1_000_000_000, 1_000_000_000);
      await file.close();
    };
    expect(await requestsOf(server, write)).toEqual({ PUT: 1 });
    const { mode, mtimeMs } = await stat(path('a'));
    expect([mode & 0o777, mtimeMs]).toEqual([0o600, 1_000_000_000_000]);
  });

  test('chmod to the same mode: nothing; to another: one COPY', async () => {
    const path = await listedDirectory('chmod');
    await writeFile(path('a'), 'content', { mode: 0o644 });
    expect(await requestsOf(server, () => chmod(path('a'), 0o644))).toEqual({});
    expect(await requestsOf(server, () => chmod(path('a'), 0o600))).toEqual({ COPY: 1 });
    expect(await requestsOf(server, () => utimes(path('a'), 1, 1))).toEqual({ COPY: 1 });
    expect(await requestsOf(server, () => utimes(path('a'), 1, 1))).toEqual({});
  });

  test('rename of a file: one COPY and one DELETE', async () => {
    const path = await listedDirectory('rename');
    await writeFile(path('a'), 'content');
    const { COPY, ...rest } = await requestsOf(server, () => rename(path('a'), path('b')));
    expect(COPY).toBe(1);
    expect(rest.DELETE === 1 || rest.DELETE_BATCH === 1).toBe(true);
    expect(total(rest)).toBe(1);
    expect(await requestsOf(server, () => readFile(path('b')))).toEqual({});
  });

  test('unlink: one DELETE, and fewer for many files at once', async () => {
    const path = await listedDirectory('unlink');
    const names = Array.from({ length: 20 }, (_, index) => `file-${index}`);
    await Promise.all(names.map((name) => writeFile(path(name), name)));
    const [first = '', ...others] = names;
    const one = await requestsOf(server, () => unlink(path(first)));
    expect(Object.keys(one).every((name) => name.startsWith('DELETE'))).toBe(true);
    expect(total(one)).toBeLessThanOrEqual(1);
    const many = await requestsOf(server, async () => {
      await Promise.all(others.map((name) => unlink(path(name))));
      // A burst is answered before the bucket has done it.
      await eventually(async () => expect(await server.bucket.keys('unlink/')).toEqual(['unlink/']), BURST_LIMIT_MS);
    });
    expect(Object.keys(many).every((name) => name.startsWith('DELETE'))).toBe(true);
    expect(total(many)).toBeLessThan(others.length);
  });

  test('mkdir: one PUT; rmdir: one DELETE; symlink: one PUT', async () => {
    const path = await listedDirectory('directories');
    expect(await requestsOf(server, () => mkdir(path('d')))).toEqual({ PUT: 1 });
    const removal = await requestsOf(server, () => rmdir(path('d')));
    expect(total(removal)).toBe(1);
    expect(await requestsOf(server, () => symlink('target', path('l')))).toEqual({ PUT: 1 });
  });

  test('a copy of a file is one COPY', async () => {
    const path = await listedDirectory('copy');
    await writeFile(path('a'), 'content');
    expect(await requestsOf(server, () => runProgram('cp', [path('a'), path('b')]))).toEqual({ COPY: 1 });
    expect(await readFile(path('b'), 'utf8')).toBe('content');
  });

  test('an extended attribute: one COPY, and reading it nothing', async () => {
    const path = await listedDirectory('xattr');
    await writeFile(path('a'), 'content');
    expect(await requestsOf(server, () => syscalls(path(''), 'setxattr a user.x y none'))).toEqual({ COPY: 1 });
    expect(await requestsOf(server, () => syscalls(path(''), 'getxattr a user.x\nlistxattr a'))).toEqual({});
  });

  test('appending to a large file uploads its end only', async () => {
    const path = await listedDirectory('append');
    await writeFile(path('large'), Buffer.alloc(60 * 1024 * 1024, 'a'));
    const requests = await requestsOf(server, async () => {
      const file = await open(path('large'), 'a');
      await file.write('end');
      await file.close();
    });
    expect(requests).not.toHaveProperty('GET');
    expect(requests).toMatchObject({ CREATE_UPLOAD: 1, COMPLETE_UPLOAD: 1, PUT_PART: 1 });
    expect(requests.COPY_PART ?? 0).toBeGreaterThan(0);
    const bytes = await server.bucket.bytes('append/large');
    expect(bytes.length).toBe(60 * 1024 * 1024 + 3);
    expect(bytes.subarray(-4).toString()).toBe('aend');
  });
});
