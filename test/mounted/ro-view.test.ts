/** Read-only mounts, whose kernels do not ask for files in use: `-o ro`, and `-o ro_view=DIR` beside a writable mount. */
import { mkdir, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { findMount } from '../../src/kernel/mount-table.ts';
import type { MountStatus } from '../../src/mount/status.ts';
import { eventually, newBucket, startServer, type TestServer } from './harness.ts';
import { runProgram, shell } from './syscalls.ts';

const CLI = join(import.meta.dirname, '../../src/cli/main.ts');
const SOON_MS = 2000;

async function statusOf(server: TestServer): Promise<MountStatus> {
  return JSON.parse((await runProgram(process.execPath, [CLI, 'status', server.dir, '--json'])).output) as MountStatus;
}

describe('ro', () => {
  test('files that were read are read again without a word to the daemon', async () => {
    const bucket = await newBucket();
    for (let i = 0; i < 20; i++) await bucket.put(`f${i}`, `content ${i}\n`);
    const server = await startServer({ bucket, options: ['ro'] });
    const first = await shell(server.dir, 'cat f*; stat -c %s f*');
    const before = (await statusOf(server)).kernel.counters.requests;
    expect(await shell(server.dir, 'for i in $(seq 0 19); do head -c 100 f$i; done')).toContain('content 19');
    expect(await shell(server.dir, 'cat f1 f2 f3')).toBe('content 1\ncontent 2\ncontent 3\n');
    const asked = (await statusOf(server)).kernel.counters.requests - before;
    expect(first).toContain('content 7');
    // 23 opens and as many closes; the directory may be asked for a few times.
    expect(asked).toBeLessThan(23);
  });

  test('an open file keeps its version when the object is replaced or deleted', async () => {
    const bucket = await newBucket();
    await bucket.put('f', 'first');
    await bucket.put('g', 'second');
    const server = await startServer({ bucket, options: ['ro', 'stat_cache_expire=1'] });
    const [f, g] = [await open(server.path('f')), await open(server.path('g'))];
    await shell(server.dir, 'cat f g');
    await bucket.put('f', 'replaced');
    await bucket.delete('g');
    await eventually(async () => {
      expect(await shell(server.dir, 'cat f; cat g 2> /dev/null || true')).toBe('replaced');
    }, 10_000);
    expect(await f.readFile('utf8')).toBe('first');
    expect(await g.readFile('utf8')).toBe('second');
    await f.close();
    await g.close();
  });

  test('nothing can be changed', async () => {
    const server = await startServer({ options: ['ro'] });
    await expect(shell(server.dir, 'echo > new')).rejects.toThrow(/Read-only|EROFS|status/);
  });
});

describe('ro_view', () => {
  let root: string;
  let view: string;
  let server: TestServer;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'tsfs-view-'));
    view = join(root, 'view');
    await mkdir(view);
    server = await startServer({ options: [`ro_view=${view}`] });
  });

  afterEach(async () => {
    await server.close();
    // The daemon took it away, or a killed one left it.
    if ((await findMount(view)) !== undefined) await runProgram('umount', ['-l', view]);
    await rm(root, { recursive: true });
  });

  const seen = (script: string, expected: string) =>
    eventually(async () => expect(await shell(view, script)).toBe(expected), SOON_MS);

  test('what is written through the mount shows in the view', async () => {
    await seen('cat f 2> /dev/null || echo none', 'none\n');
    await shell(server.dir, 'printf one > f');
    await seen('cat f; ls', 'onef\n');
    await shell(server.dir, 'printf twotwo > f');
    await seen('cat f; stat -c %s f', 'twotwo6\n');
    await shell(server.dir, 'printf three > g; mv g f');
    await seen('cat f; ls', 'threef\n');
    await shell(server.dir, 'chmod 600 f; touch -d @1000000000 f');
    await seen('stat -c "%a %Y" f', '600 1000000000\n');
    await shell(server.dir, 'mkdir d; mv f d/h');
    await seen('ls . d; cat d/h', '.:\nd\n\nd:\nh\nthree');
    await shell(server.dir, 'rm -r d');
    await seen('ls', '');
  });

  test('a file that is being written shows as far as it is', async () => {
    await shell(server.dir, 'printf begin > f');
    await seen('cat f', 'begin');
    // Not in this process: it is the daemon's proxy, and must not wait for an upload (a child that is spawned closes its copy).
    const script = `
import os, sys, time
def seen(expected):
    deadline = time.monotonic() + 2
    while open(sys.argv[2] + '/f').read() != expected:
        assert time.monotonic() < deadline, open(sys.argv[2] + '/f').read()
        time.sleep(0.01)
fd = os.open(sys.argv[1] + '/f', os.O_WRONLY | os.O_APPEND)
os.write(fd, b'+more'); seen('begin+more')
os.write(fd, b'+end'); seen('begin+more+end')
os.close(fd); seen('begin+more+end')`;
    await runProgram('python3', ['-c', script, server.dir, view]);
    await seen('cat f', 'begin+more+end');
  });

  test('a file that is open in the view survives its replacement and its removal', async () => {
    await shell(server.dir, 'printf first > f; printf second > g');
    await seen('cat f g', 'firstsecond');
    const [f, g] = [await open(join(view, 'f')), await open(join(view, 'g'))];
    await shell(server.dir, 'printf new > n; mv n f; rm g');
    expect(await f.readFile('utf8')).toBe('first');
    expect(await g.readFile('utf8')).toBe('second');
    await f.close();
    await g.close();
    await seen('cat f; ls', 'newf\n');
  });

  test('it cannot be written, even when it is remounted as writable', async () => {
    await shell(server.dir, 'echo x > f');
    await expect(shell(view, 'echo y > f')).rejects.toThrow();
    await runProgram('mount', ['-i', '-o', 'remount,rw', view]).catch(() => undefined);
    await expect(shell(view, 'echo y > f')).rejects.toThrow();
    await expect(shell(view, 'rm f')).rejects.toThrow();
    expect(await shell(server.dir, 'cat f')).toBe('x\n');
  });

  test('status shows it, and the end of the mount is its end', async () => {
    expect((await statusOf(server)).view).toMatchObject({ mountpoint: view, state: 'mounted' });
    await server.umount();
    expect(await findMount(view)).toBeUndefined();
  });

  test('without it the mount goes on', async () => {
    await runProgram('umount', [view]);
    await eventually(async () => expect((await statusOf(server)).view?.state).toBe('unmounted'), SOON_MS);
    await shell(server.dir, 'echo x > f; mv f g; cat g; rm g');
  });
});
