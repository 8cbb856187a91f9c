/** A mount as a service of systemd, with `Type=notify` and `WatchdogSec=`. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually, startServer } from './harness.ts';

const WATCHDOG_MS = 1000;
const LIMIT_MS = 30_000;

let directory: string;
let receiver: ChildProcess;
let received = '';

const count = (message: string) => received.split('\n').filter((line) => line === message).length;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tsfs-systemd-'));
  const program = join(directory, 'notify-socket');
  const source = join(import.meta.dirname, 'notify-socket.c');
  await promisify(execFile)('gcc', ['-O1', '-Wall', '-Wextra', '-Werror', '-o', program, source]);
  receiver = spawn(program, [join(directory, 'notify')], { stdio: ['ignore', 'pipe', 'inherit'] });
  receiver.stdout?.setEncoding('utf8').on('data', (text: string) => {
    received += text;
  });
  await eventually(async () => expect(received).toBe('listening\n'), LIMIT_MS);
});

afterAll(async () => {
  receiver.kill('SIGKILL');
  await rm(directory, { recursive: true });
});

test('it is told when the mount is ready, that it lives, through the death of a worker, and when it ends', async () => {
  const server = await startServer({
    environment: { NOTIFY_SOCKET: join(directory, 'notify'), WATCHDOG_USEC: String(WATCHDOG_MS * 1000) },
  });
  const ready = `READY=1 MAINPID=${server.pid}`;
  await eventually(async () => expect(count(ready)).toBe(1), LIMIT_MS);
  await eventually(async () => expect(count('WATCHDOG=1')).toBeGreaterThan(2), LIMIT_MS);

  process.kill((await server.workerPid()) as number, 'SIGKILL');
  await writeFile(server.path('a.txt'), 'after it');
  expect((await server.bucket.bytes('a.txt')).toString()).toBe('after it');
  const beats = count('WATCHDOG=1');
  await eventually(async () => expect(count('WATCHDOG=1')).toBeGreaterThan(beats + 1), LIMIT_MS);
  expect(count('STOPPING=1')).toBe(0);

  await server.umount();
  await eventually(async () => expect(count('STOPPING=1')).toBe(1), LIMIT_MS);
});
