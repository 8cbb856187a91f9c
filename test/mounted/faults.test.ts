/** What programs see when the store fails, and what becomes of their files. */

import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, open, readdir, readFile, rename, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { MountStatus } from '../../src/mount/status.ts';
import { testServer } from '../support/buckets.ts';
import type { Effect, Fault } from '../support/faults.ts';
import { stateDirectory, tsfs } from './commands.ts';
import { eventually, startServer, type TestServer } from './harness.ts';
import { runProgram } from './syscalls.ts';

const CLI = join(import.meta.dirname, '../../src/cli/main.ts');
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

test('bytes that are damaged on their way: files are whole on both sides', async () => {
  const server = await startServer();
  const content = randomBytes(300_000);
  await server.bucket.put('small', content);
  server.proxy.addFault({ effect: { type: 'corrupt' }, operations: ['PUT', 'GET'], times: 2 });
  await writeFile(server.path('f'), content);
  expect(await server.bucket.bytes('f')).toEqual(content);
  server.proxy.addFault({ effect: { type: 'corrupt' }, operations: ['GET'], times: 1 });
  expect(await readFile(server.path('small'))).toEqual(content);
});

test('a large file that came damaged heals once all of it was read', async () => {
  const server = await startServer();
  const content = randomBytes(3 * 2 ** 20);
  await server.bucket.put('large', content);
  await stat(server.path('large'));
  server.proxy.addFault({ effect: { type: 'corrupt' }, operations: ['GET'], times: 1 });
  await readFile(server.path('large'));
  await eventually(
    async () => expect((await readFile(server.path('large'))).equals(content)).toBe(true),
    ARRIVAL_LIMIT_MS,
  );
});

test('an error behind status 200: a rename fails, and nothing is lost', async () => {
  const server = await startServer({ options: ['retries=0'] });
  await writeFile(server.path('f'), 'content');
  const release = server.proxy.addFault({
    effect: { type: 'errorIn200', code: 'InternalError' },
    operations: ['COPY'],
  });
  await expect(rename(server.path('f'), server.path('g'))).rejects.toEqual(failingWith('EIO'));
  expect(await server.bucket.keys()).toEqual(['f']);
  release();
  expect(await readFile(server.path('f'), 'utf8')).toBe('content');
  await rename(server.path('f'), server.path('g'));
  expect(await server.bucket.keys()).toEqual(['g']);
});

describe('durability=local: files that are made while the store is away', () => {
  const OPTIONS = ['durability=local', 'retries=0', 'connect_timeout=1', 'stat_cache_expire=1'];

  async function startListed(): Promise<TestServer> {
    const server = await startServer({ options: OPTIONS });
    await server.bucket.put('dir/known', 'content');
    await readdir(server.path('dir'));
    // Nothing is believed any more.
    await sleep(1500);
    await server.proxy.refuse();
    return server;
  }

  test('come to the bucket when it is back', async () => {
    const server = await startListed();
    await expect(stat(server.path('dir', 'new'))).rejects.toEqual(failingWith('ENOENT'));
    await writeFile(server.path('dir', 'new'), 'content');
    await writeFile(server.path('dir', 'other'), 'content', { flag: 'wx' });
    await rename(server.path('dir', 'other'), server.path('dir', 'renamed')).catch((error) =>
      expect(error).toEqual(failingWith('EIO')),
    );
    expect(await readFile(server.path('dir', 'new'), 'utf8')).toBe('content');
    expect((await readdir(server.path('dir'))).length).toBe(3);
    await server.proxy.accept();
    await eventually(async () => expect((await server.bucket.keys('dir/')).length).toBe(3), ARRIVAL_LIMIT_MS);
    expect(await server.bucket.text('dir/new')).toBe('content');
    await server.umount();
  });

  test.each([false, true])('with O_EXCL never replace another server’s, and are kept; crash: %j', async (isCrash) => {
    const server = await startListed();
    for (const name of ['free', 'taken']) await writeFile(server.path('dir', name), `ours ${name}`, { flag: 'wx' });
    await server.bucket.put('dir/taken', 'theirs');
    if (isCrash) await server.kill();
    await server.proxy.accept();
    if (isCrash) await server.mount();
    await eventually(async () => {
      expect(await readFile(server.path('dir', 'taken'), 'utf8')).toBe('theirs');
      expect(await server.bucket.text('dir/free')).toBe('ours free');
    }, ARRIVAL_LIMIT_MS);
    expect(await server.bucket.text('dir/taken')).toBe('theirs');
    const { output } = await tsfs(server, 'pending');
    const [, kept = ''] = /lost\+found\/(\S*dir_taken)/.exec(output) ?? [];
    expect(await readFile(join(await stateDirectory(server), 'staging/lost+found', kept), 'utf8')).toBe('ours taken');
    await server.umount();
  });
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

describe('a store that takes requests and never answers', () => {
  const OPTIONS = ['stat_cache_expire=1', 'retries=1', 'connect_timeout=2', 'readwrite_timeout=2'];
  const SILENT: Fault = { effect: { type: 'stall' } };

  async function storeOf(server: TestServer): Promise<MountStatus['store']> {
    const { output } = await runProgram(process.execPath, [CLI, 'status', server.dir, '--json']);
    return (JSON.parse(output) as MountStatus).store;
  }

  test('every call ends; nobody waits for long; on return everything goes on', { timeout: 120_000 }, async () => {
    const server = await startServer({ options: [...OPTIONS, 'durability=local'] });
    await server.bucket.put('known', 'content');
    await server.bucket.put('unlisted/file', 'content');
    await readFile(server.path('known'));
    await readdir(server.dir);
    // What was listed just now is wholly known.
    await sleep(1500);
    server.proxy.addFault(SILENT);
    const calls: [string, () => Promise<unknown>][] = [
      ['mkdir', () => mkdir(server.path('directory'))],
      ['rename', () => rename(server.path('known'), server.path('other'))],
      ['create where nobody looked', () => writeFile(server.path('unlisted', 'new'), 'content', { flag: 'wx' })],
    ];
    for (const [name, call] of calls) {
      await expect(call(), name).rejects.toMatchObject({ code: expect.stringMatching(/^(EIO|ETIMEDOUT)$/) });
    }
    expect(await storeOf(server)).toMatchObject({
      health: { state: 'away', lastError: { kind: 'Timeout', advice: expect.stringContaining('did not answer') } },
    });
    server.resetRequests();
    expect(await readFile(server.path('known'), 'utf8')).toBe('content');
    expect(await readdir(server.dir)).toEqual(['known', 'unlisted']);
    await writeFile(server.path('known'), 'changed');
    expect(await readFile(server.path('known'), 'utf8')).toBe('changed');
    // Only the look whether the store is back.
    expect(Object.keys(server.requests()).filter((operation) => !['LIST', 'BUCKET'].includes(operation))).toEqual([]);
    server.proxy.clearFaults();
    await eventually(async () => expect(await server.bucket.text('known')).toBe('changed'), ARRIVAL_LIMIT_MS);
    expect((await storeOf(server)).health.state).not.toBe('away');
    expect(server.log).toContain('the store does not answer');
    expect(server.log).toContain('the store answers again');
    await writeFile(server.path('unlisted', 'new'), 'content');
  });

  test('who waits can be interrupted, and killed', async () => {
    const server = await startServer({ options: ['retries=5', 'connect_timeout=60', 'readwrite_timeout=60'] });
    await server.bucket.put('f', 'content');
    await writeFile(server.path('g'), 'content');
    server.proxy.addFault(SILENT);
    const scripts = ['cat f', 'ls', 'stat x', 'echo x > g', 'mv g h', 'rm g', 'mkdir d', 'echo x > n', 'touch g'];
    for (const signal of ['SIGINT', 'SIGKILL'] as const) {
      // The shell, which opens files itself, catches SIGINT.
      for (const script of scripts.filter((words) => signal === 'SIGKILL' || !words.includes('>'))) {
        const child = spawn('sh', ['-c', `exec 2> /dev/null; ${script}`], { cwd: server.dir, detached: true });
        const closed = new Promise((resolve) => child.once('exit', resolve));
        await sleep(300);
        process.kill(-(child.pid as number), signal);
        const outcome = await Promise.race([closed.then(() => 'ended'), sleep(5000, 'waits')]);
        expect(outcome, `${script} after ${signal}`).toBe('ended');
      }
    }
  });
});

test('a caller that catches a signal goes on', async () => {
  const server = await startServer();
  server.proxy.addFault({ effect: { type: 'slow', latencyMs: 1500 } });
  const child = spawn('sh', ['-c', 'trap : TERM; mkdir d && echo x > n'], { cwd: server.dir });
  const status = new Promise((resolve) => child.once('exit', resolve));
  for (let i = 0; i < 4; i += 1) {
    await sleep(800);
    child.kill('SIGTERM');
  }
  expect(await status).toBe(0);
  expect(await server.bucket.text('n')).toBe('x\n');
});

test('a mount that does not come about leaves no state behind', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tsfs-no-mount-'));
  const { endpoint, accessKeyId, secretAccessKey } = testServer();
  const place = (name: string) => join(directory, name);
  await mkdir(place('mnt'));
  const options = `url=${endpoint},use_path_request_style,state_dir=${place('state')},logfile=${place('log')}`;
  const env = { ...process.env, AWSACCESSKEYID: accessKeyId, AWSSECRETACCESSKEY: secretAccessKey };
  const command = [CLI, 'mount', 'no-such-bucket', place('mnt'), '-o', options];
  const failure = promisify(execFile)(process.execPath, command, { env, timeout: 60_000 });
  await expect(failure).rejects.toMatchObject({ stderr: expect.stringContaining('There is no bucket no-such-bucket') });
  expect(await readdir(place('state'))).toEqual([]);
  // But for what it said.
  expect(await readFile(place('log'), 'utf8')).toContain('There is no bucket');
  await rm(directory, { recursive: true });
});

test('what a store refuses is told apart', async () => {
  const server = await startServer({ options: ['durability=remote', 'retries=0'] });
  // 122: EDQUOT, for which Node has no name.
  const refusals = [
    { status: 403, code: 'AccessDenied', kind: 'AccessDenied', errno: 'EACCES', advice: 'lacks the permission' },
    { status: 403, code: 'RequestTimeTooSkewed', kind: 'ClockSkew', errno: 'EACCES', advice: 'clock of this host' },
    { status: 404, code: 'NoSuchBucket', kind: 'NoSuchBucket', errno: 'EIO', advice: 'There is no bucket' },
    { status: 403, code: 'QuotaExceeded', kind: 'QuotaExceeded', errno: 'Unknown system error -122', advice: 'quota' },
    {
      status: 507,
      code: 'InsufficientStorage',
      kind: 'QuotaExceeded',
      errno: 'Unknown system error -122',
      advice: 'quota',
    },
    { status: 403, code: 'InvalidAccessKeyId', kind: 'BadCredentials', errno: 'EACCES', advice: 'check the key id' },
  ];
  for (const [index, { status, code, kind, errno, advice }] of refusals.entries()) {
    const release = server.proxy.addFault({ effect: { type: 'status', status, code }, operations: ['PUT'] });
    for (const n of [1, 2, 3]) {
      await expect(writeFile(server.path(`f${index}${n}`), 'x'), code).rejects.toEqual(failingWith(errno));
    }
    const text = (await runProgram(process.execPath, [CLI, 'status', server.dir])).output;
    expect(text).toMatch(new RegExp(`store +refusing for .*\\(${kind}\\): .*${advice}`));
    release();
    await writeFile(server.path('f'), `${index}`);
  }
});
