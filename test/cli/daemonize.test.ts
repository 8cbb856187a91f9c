import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { startDaemon } from '../../src/mount/daemonize.ts';
import { EXIT } from '../../src/mount/errors.ts';

let directory: string;
let file: string;
let outputFile: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tsfs-daemon-'));
  file = join(directory, 'report');
  outputFile = join(directory, 'output');
});
afterEach(() => rm(directory, { recursive: true, force: true }));

function start(behave: string, options: { readyTimeoutMs?: number; signal?: AbortSignal } = {}): Promise<void> {
  return startDaemon({
    module: new URL('./fixtures/daemon.ts', import.meta.url),
    arguments: [behave, file],
    mountpoint: '/mnt',
    viewMountpoint: undefined,
    controlSocket: join(directory, 'control.sock'),
    isAlone: false,
    outputFile,
    readyTimeoutMs: 20_000,
    ...options,
  });
}

async function report(wanted: (text: string) => boolean): Promise<string> {
  for (;;) {
    const text = await readFile(file, 'utf8').catch(() => '');
    if (wanted(text)) return text;
    await sleep(20);
  }
}

it('leaves a daemon behind that is on its own', async () => {
  await start('ready');
  const daemon = JSON.parse(await report((text) => text.endsWith('}')));
  expect(daemon).toMatchObject({ cwd: '/', argv: ['ready', file] });
  // Field 6 of proc_pid_stat(5), after the name in parentheses: the session.
  const stat = await readFile(`/proc/${daemon.pid}/stat`, 'utf8');
  expect(Number(stat.slice(stat.lastIndexOf(')')).split(' ')[4])).toBe(daemon.guardian);
  process.kill(daemon.pid, 'SIGTERM');
  await report((text) => text === 'ended');
});

it('passes on why the mount failed', async () => {
  await expect(start('fail')).rejects.toMatchObject({ sentence: 'The bucket is not to be had.', exitCode: 32 });
});

it('keeps the stack of a defect in the output file', async () => {
  await expect(start('crash')).rejects.toMatchObject({ sentence: 'The tsfs daemon failed: TypeError: a defect' });
  expect(await readFile(outputFile, 'utf8')).toMatch(/TypeError: a defect\n\s+at /);
});

it('notices a daemon that just ends', async () => {
  await expect(start('exit')).rejects.toMatchObject({
    exitCode: EXIT.failure,
    sentence: expect.stringContaining(outputFile),
  });
});

it('ends a daemon that is not ready in time', async () => {
  const starting = start('hang', { readyTimeoutMs: 3000 });
  await expect(starting).rejects.toMatchObject({ sentence: `The mount was not ready after 3 s; see ${outputFile}.` });
  expect(await report(() => true)).toBe('ended');
});

it('ends the daemon when the start is interrupted', async () => {
  const controller = new AbortController();
  const starting = start('hang', { signal: controller.signal });
  const failure = expect(starting).rejects.toMatchObject({ exitCode: EXIT.interrupted });
  await report((text) => text.endsWith('}'));
  controller.abort();
  await failure;
  expect(await report(() => true)).toBe('ended');
});
