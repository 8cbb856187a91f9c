/**
 * Buckets that somebody filled by accident or with intent: what can be shown is listed, read and deleted, what cannot is counted and told, and
 * nothing of it gets out of the mount. `TSFS_TEST_LARGE_DIRECTORY` is the number of files in the large directory.
 */
import { lstat, mkdtemp, readdir, readFile, readlink, rm, rmdir, stat, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { MountStatus } from '../../src/mount/status.ts';
import type { TestBucket } from './bucket.ts';
import { eventually, newBucket, startServer, type TestServer } from './harness.ts';
import { runProgram, shell } from './syscalls.ts';

const CLI = join(import.meta.dirname, '../../src/cli/main.ts');
const LARGE_DIRECTORY = Number(process.env.TSFS_TEST_LARGE_DIRECTORY ?? 3000);
/** What a directory of any size may take, beside what the daemon has anyway. */
const MORE_BYTES = 200 * 2 ** 20;
const PARALLEL = 16;
const ARRIVAL_LIMIT_MS = 20_000;
/** What a missing name is believed for. */
const MISSING_MS = 1100;

async function statusOf(server: TestServer): Promise<MountStatus> {
  return JSON.parse((await runProgram(process.execPath, [CLI, 'status', server.dir, '--json'])).output) as MountStatus;
}

async function putAll(bucket: TestBucket, objects: Readonly<Record<string, string>>): Promise<void> {
  const rest = Object.entries(objects).values();
  const put = async () => {
    for (const [key, content] of rest) await bucket.put(key, content);
  };
  await Promise.all(Array.from({ length: PARALLEL }, put));
}

/** Removals reach the bucket a moment after they are answered. */
function expectKeys(bucket: TestBucket, prefix: string, keys: readonly string[]): Promise<void> {
  return eventually(async () => expect((await bucket.keys(prefix)).sort()).toEqual([...keys].sort()), ARRIVAL_LIMIT_MS);
}

function failingWith(code: string) {
  return expect.objectContaining({ code });
}

describe('keys that are no file names', () => {
  const LONG = 'e'.repeat(300);
  const DEEP = `deep/${'d'.repeat(200)}/${'d'.repeat(200)}/${'d'.repeat(200)}/${'d'.repeat(200)}/`;
  const SHOWN = [
    ' ',
    '*',
    '-rf',
    '\\',
    'a\nb',
    'control\u0001\u001b[31m',
    'del\u007f',
    'emoji\u{1f600}',
    'percent%2F%00',
    'plus+and space',
    'quote"\'`$(x)',
    'line\u2028separator',
    'e\u0301',
    'é',
    '...',
    'n'.repeat(255),
  ];
  const HIDDEN = ['/leading', '//twice', 'a//b', './dot', '../up', 'x/../y', 'x/./z', LONG, `${LONG}/inside`];
  let server: TestServer;

  beforeAll(async () => {
    const bucket = await newBucket();
    await putAll(bucket, Object.fromEntries([...SHOWN, ...HIDDEN].map((key) => [key, key])));
    await bucket.put(DEEP + 'f'.repeat(1024 - DEEP.length), 'longest');
    await bucket.put('both', 'a file');
    await bucket.put('both/inside', 'x');
    server = await startServer({ bucket, options: ['stat_cache_expire=1'] });
  });

  test('what can be shown is listed, told and read', async () => {
    const names = await readdir(server.dir);
    expect(names.sort()).toEqual([...SHOWN, 'a', 'both', 'deep', 'x'].sort());
    for (const name of SHOWN) {
      expect(await readFile(server.path(name), 'utf8')).toBe(name);
      expect((await stat(server.path(name))).isFile()).toBe(true);
    }
    expect(await readFile(server.path(DEEP, 'f'.repeat(1024 - DEEP.length)), 'utf8')).toBe('longest');
    expect(await readdir(server.path('both'))).toEqual(['inside']);
  });

  test('what cannot is counted, each once, and named in the log', async () => {
    await readdir(server.path('a'));
    await readdir(server.path('x'));
    for (let round = 0; round < 3; round += 1) await readdir(server.dir);
    // In the root: two common prefixes `/` and `./`, `../`, two of 300 bytes, and the file `both`; `//` in a, `..` and `.` in x.
    expect((await statusOf(server)).skippedKeys).toBe(5 + 1 + 1 + 2);
    expect(server.log).toContain('their keys cannot be file names here');
  });

  test('names that are not UTF-8 find nothing and make nothing', async () => {
    const path = Buffer.concat([Buffer.from(`${server.dir}/`), Buffer.of(0x66, 0xff, 0xfe)]);
    await expect(stat(path)).rejects.toEqual(
      expect.objectContaining({ code: expect.stringMatching(/ENOENT|EILSEQ|EINVAL/) }),
    );
    await expect(writeFile(path, 'x')).rejects.toEqual(
      expect.objectContaining({ code: expect.stringMatching(/EILSEQ|EINVAL/) }),
    );
  });

  test('a directory with keys that are not shown is not empty, and stays', async () => {
    await readdir(server.path('a'));
    expect(await readdir(server.path('x'))).toEqual([]);
    await expect(rmdir(server.path('x'))).rejects.toEqual(failingWith('ENOTEMPTY'));
    await expect(rm(server.path('a'), { recursive: true })).rejects.toEqual(failingWith('ENOTEMPTY'));
    expect(await server.bucket.keys('x/')).toEqual(['x/../y', 'x/./z']);
    expect(await server.bucket.keys('a/')).toEqual(['a//b']);
  });

  test('of a key that is a file and a directory, the file shows when the directory is gone', async () => {
    await rm(server.path('both'), { recursive: true });
    await expectKeys(server.bucket, 'both', ['both']);
    await new Promise((resolve) => setTimeout(resolve, MISSING_MS));
    expect(await readFile(server.path('both'), 'utf8')).toBe('a file');
    await unlink(server.path('both'));
    await expectKeys(server.bucket, 'both', []);
  });

  test('what is shown can be deleted; nothing else goes', async () => {
    for (const name of SHOWN) await unlink(server.path(name));
    await rm(server.path('deep'), { recursive: true });
    await expectKeys(server.bucket, '', HIDDEN);
  });
});

describe('metadata that lie', () => {
  let server: TestServer;

  const LIES: Record<string, Record<string, string>> = {
    block: { mode: String(0o060666) },
    character: { mode: String(0o020666) },
    fifo: { mode: String(0o010666) },
    socket: { mode: String(0o140777) },
    'directory-mode': { mode: String(0o040755) },
    overflow: { mode: String(0o777777), uid: '4294967295', gid: '99999999999' },
    negative: { mode: '-1', uid: '-1', gid: '-2', mtime: '-9223372036854775808' },
    junk: { mode: 'rwxr-xr-x', uid: 'root', gid: '0x10', mtime: 'yesterday', ctime: '1e99', atime: 'NaN' },
    late: { mtime: '253402300800', ctime: '99999999999999999999' },
    nanoseconds: { mtime: '1500000000.9999999999999' },
    xattr: { xattr: '%7B%22__proto__%22%3A%7B%22x%22%3A1%7D%7D' },
    nested: { xattr: encodeURIComponent(`${'['.repeat(200)}${']'.repeat(200)}`) },
    huge: { x: 'y'.repeat(1900) },
    proto: { constructor: 'x', tostring: 'x', hasownproperty: 'x' },
  };

  beforeAll(async () => {
    const bucket = await newBucket();
    await Promise.all(Object.entries(LIES).map(([name, metadata]) => bucket.put(name, name, { metadata })));
    await bucket.put('setuid', 'x', { metadata: { mode: String(0o106755), uid: '0' } });
    await bucket.put('sizes', 'four', { metadata: { size: '1000000', 'content-length': '7' } });
    server = await startServer({ bucket, options: ['uid=1000', 'gid=1000', 'umask=022'] });
  });

  test('what makes no sense is left out; the file is a file, with its own size', async () => {
    const startSeconds = Date.now() / 1000;
    for (const name of Object.keys(LIES)) {
      const found = await lstat(server.path(name));
      expect([name, found.isFile(), found.size]).toEqual([name, true, name.length]);
      expect([name, found.uid, found.gid, found.mode & 0o7777]).toEqual([name, 1000, 1000, 0o644]);
      if (name === 'nanoseconds') expect(Math.round(found.mtimeMs / 1000)).toBe(1_500_000_001);
      else expect(Math.abs(found.mtimeMs / 1000 - startSeconds)).toBeLessThan(3600);
      expect(await readFile(server.path(name), 'utf8')).toBe(name);
    }
    expect((await stat(server.path('sizes'))).size).toBe(4);
  });

  test('set-uid bits are shown, and not obeyed', async () => {
    expect((await stat(server.path('setuid'))).mode & 0o7777).toBe(0o6755);
    const mount = (await readFile('/proc/self/mounts', 'utf8')).split('\n').find((line) => line.includes(server.dir));
    expect(mount).toMatch(/nosuid.*nodev|nodev.*nosuid/);
  });

  test('they can be changed and deleted like others', async () => {
    const names = [...Object.keys(LIES), 'setuid', 'sizes'];
    await shell(server.dir, `chmod 600 ${names.join(' ')}; touch -d @1000000000 ${names.join(' ')}`);
    for (const name of names) expect((await stat(server.path(name))).mtimeMs).toBe(1e12);
    await shell(server.dir, `rm ${names.join(' ')}`);
    await expectKeys(server.bucket, '', []);
  });
});

describe('symbolic links', () => {
  const LINK = { mode: String(0o120777) };
  let server: TestServer;
  let secret: string;

  beforeAll(async () => {
    secret = await mkdtemp(join(tmpdir(), 'tsfs-secret-'));
    await writeFile(join(secret, 'file'), 'secret');
    const bucket = await newBucket();
    await bucket.put('out', join(secret, 'file'), { metadata: LINK });
    await bucket.put('up', '../../../../../../etc/passwd', { metadata: LINK });
    await bucket.put('loop', 'loop', { metadata: LINK });
    await bucket.put('empty', '', { metadata: LINK });
    await bucket.put('nul', 'a\0b', { metadata: LINK });
    await bucket.put('bytes', Buffer.of(0xff, 0xfe, 0x61), { metadata: LINK });
    await bucket.put('long', 'l'.repeat(5000), { metadata: LINK });
    await bucket.put('through/inside', 'x');
    await bucket.put('through-link', secret, { metadata: LINK });
    await bucket.put('through-link/file', 'of the bucket');
    server = await startServer({ bucket });
  });

  afterAll(() => rm(secret, { recursive: true }));

  test('are text', async () => {
    expect(await readlink(server.path('out'))).toBe(join(secret, 'file'));
    expect(await readlink(server.path('up'))).toBe('../../../../../../etc/passwd');
    await expect(readFile(server.path('loop'))).rejects.toEqual(failingWith('ELOOP'));
    await expect(readlink(server.path('long'))).rejects.toEqual(failingWith('EIO'));
    for (const name of ['empty', 'nul', 'bytes']) {
      expect((await lstat(server.path(name))).isSymbolicLink()).toBe(true);
      await readlink(server.path(name)).catch((error: NodeJS.ErrnoException) =>
        expect(error.code).toMatch(/EIO|EINVAL|ENOENT/),
      );
    }
  });

  test('are never followed by the daemon: deleting and changing them leaves what they name', async () => {
    await shell(server.dir, 'touch -h -d @1000000000 out; chown -h 5:5 out; mv out renamed; rm renamed up loop');
    await expect(lstat(server.path('renamed'))).rejects.toEqual(failingWith('ENOENT'));
    expect(await readFile(join(secret, 'file'), 'utf8')).toBe('secret');
    // As a directory, which hides the link of that name.
    expect(await readFile(server.path('through-link/file'), 'utf8')).toBe('of the bucket');
  });
});

test('directories as other tools make them', async () => {
  const bucket = await newBucket();
  const s3fs = { mode: String(0o040700), uid: '7', gid: '8', mtime: '1400000000' };
  await bucket.put('s3fs/', '', { metadata: s3fs, contentType: 'application/x-directory' });
  await bucket.put('httpd/', '', { contentType: 'httpd/unix-directory' });
  await bucket.put('console/', '');
  await bucket.put('hadoop_$folder$', '');
  await bucket.put('filled/', 'a marker with content');
  await bucket.put('rclone/', '', { metadata: { mtime: '1400000000.123456789' } });
  await bucket.put('implied/file', 'x');
  await bucket.put('both_$folder$', '');
  await bucket.put('both/', '');
  await bucket.put('both/file', 'x');
  await bucket.put('$folder$', 'a file');
  await bucket.put('_$folder$', '');
  const server = await startServer({ bucket, options: ['uid=1000', 'gid=1000', 'umask=022'] });
  const directories = ['both', 'console', 'filled', 'hadoop', 'httpd', 'implied', 'rclone', 's3fs'];
  const entries = await readdir(server.dir, { withFileTypes: true });
  expect(
    entries
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name)
      .sort(),
  ).toEqual(directories);
  for (const name of directories) expect((await stat(server.path(name))).isDirectory()).toBe(true);
  expect(await stat(server.path('s3fs'))).toMatchObject({ mode: 0o040700, uid: 7, gid: 8, mtimeMs: 1.4e12 });
  expect(await stat(server.path('implied'))).toMatchObject({ mode: 0o040755, uid: 1000, gid: 1000 });
  for (const name of directories) await writeFile(server.path(name, 'new'), 'x');
  await shell(server.dir, `chmod 750 ${directories.join(' ')}`);
  for (const name of directories) expect((await stat(server.path(name))).mode & 0o777).toBe(0o750);
  await shell(server.dir, `rm -r ${directories.join(' ')}`);
  await expectKeys(bucket, '', ['$folder$', '_$folder$']);
});

test(`${LARGE_DIRECTORY} files in one directory`, { timeout: 3_600_000 }, async () => {
  const bucket = await newBucket();
  const names = Array.from({ length: LARGE_DIRECTORY }, (_, index) => `file-${String(index).padStart(6, '0')}`);
  await putAll(bucket, Object.fromEntries(names.map((name) => [`large/${name}`, name])));
  const server = await startServer({ bucket });
  const beforeBytes = await server.residentBytes();
  server.resetRequests();
  expect((await readdir(server.path('large'))).sort()).toEqual(names);
  expect(server.requests().LIST).toBeLessThanOrEqual(Math.ceil(LARGE_DIRECTORY / 1000) + 2);
  expect((await server.residentBytes()) - beforeBytes).toBeLessThan(MORE_BYTES);
  for (const name of [names[0], names.at(-1)] as string[]) {
    expect(await readFile(server.path('large', name), 'utf8')).toBe(name);
  }
  await expect(rmdir(server.path('large'))).rejects.toEqual(failingWith('ENOTEMPTY'));
  server.resetRequests();
  let mostBytes = 0;
  const watch = setInterval(async () => {
    mostBytes = Math.max(mostBytes, await server.residentBytes());
  }, 500);
  // Another limit than that of a single call: the removal of many takes its time.
  await runProgram('rm', ['-r', server.path('large')], { limitMs: 1_800_000 }).finally(() => clearInterval(watch));
  await expectKeys(bucket, '', []);
  expect(mostBytes - beforeBytes).toBeLessThan(MORE_BYTES);
  const { DELETE = 0, DELETE_BATCH = 0, LIST = 0, PUT = 0 } = server.requests();
  // In batches of up to a thousand, but for the first ones; how full they are is a matter of speed.
  expect(DELETE + DELETE_BATCH).toBeLessThan(LARGE_DIRECTORY / 5);
  expect(LIST).toBeLessThan(LARGE_DIRECTORY / 100);
  // The marker of a directory that was not to vanish with its last entry.
  expect(PUT).toBeLessThanOrEqual(1);
  if (LARGE_DIRECTORY > 10_000)
    console.info('rm -r:', server.requests(), `${(mostBytes - beforeBytes) >> 20} MiB more`);
});
