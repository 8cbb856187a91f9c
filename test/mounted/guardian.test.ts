/**
 * A mount outlives the worker that serves it: whatever is done to workers, no call fails and nothing is lost.
 * TSFS_TEST_KILLS sets how many workers are killed under each load.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, rmdir, stat, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { findMount } from '../../src/kernel/mount-table.ts';
import type { MountConfig } from '../../src/mount/config.ts';
import type { MountJob } from '../../src/mount/job.ts';
import { eventually, PATIENCE, startServer, type TestServer } from './harness.ts';
import type { LoadReport } from './load.ts';
import { runProgram } from './syscalls.ts';

const KILLS = Number(process.env.TSFS_TEST_KILLS ?? 5);
const LIMIT_MS = 60_000 + KILLS * 5_000;
const WORKER_LIMIT_MS = 30_000;
const STAGGER_MS = 900;
const WATCHDOG_SECONDS = 3 * PATIENCE;
const LOAD = join(import.meta.dirname, 'load.ts');
/** Processes of such a server load `faulty-worker.ts`. */
const FAULTY = { NODE_OPTIONS: `--import=${join(import.meta.dirname, 'faulty-worker.ts')}` };
const OLD_KERNEL = { NODE_OPTIONS: `--import=${join(import.meta.dirname, 'old-kernel.ts')}` };
const KERNELS = [
  { kernel: 'this kernel', environment: {} },
  { kernel: 'a kernel that does not send requests again', environment: OLD_KERNEL },
];
const WORKER = join(import.meta.dirname, '../../src/mount/worker.ts');
const CLI = join(import.meta.dirname, '../../src/cli/main.ts');

const loads = new Set<Load>();

class Load {
  readonly directory: string;
  readonly #process: ChildProcess;
  #output = '';

  constructor(directory: string, words: readonly string[]) {
    this.directory = directory;
    const [kind = '', ...rest] = words;
    this.#process = spawn(process.execPath, [LOAD, kind, directory, ...rest], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text;
    });
    loads.add(this);
  }

  /** `view`: where the hot files are read. */
  static async start(kind: 'hot' | 'mixed', server: TestServer, seed: number, view?: string): Promise<Load> {
    const name = `${kind} ${seed}`;
    const directory = server.path(name);
    await mkdir(directory);
    const load = new Load(directory, [kind, String(seed), ...(view === undefined ? [] : [join(view, name)])]);
    await eventually(async () => expect(load.#output).toContain('started\n'), WORKER_LIMIT_MS);
    return load;
  }

  async stop(): Promise<LoadReport> {
    const closed = new Promise((resolve) => this.#process.once('close', resolve));
    this.#process.kill('SIGTERM');
    await closed;
    loads.delete(this);
    return JSON.parse(this.#output.slice('started\n'.length)) as LoadReport;
  }

  kill(): void {
    this.#process.kill('SIGKILL');
  }
}

afterEach(() => {
  for (const load of loads) load.kill();
  loads.clear();
  delete process.env.TSFS_WATCHDOG_MS;
});

interface Status {
  readonly pid: number;
  readonly guardian: { readonly pid: number; readonly restarts: number; readonly lastRestart?: string };
}

async function statusOf(server: TestServer): Promise<Status> {
  const { output } = await runProgram(process.execPath, [CLI, 'status', server.dir, '--json']);
  return JSON.parse(output) as Status;
}

async function nextWorker(server: TestServer, before: number | undefined): Promise<number> {
  return eventually(async () => {
    const pid = await server.workerPid();
    if (pid === undefined || pid === before) throw new Error('no other worker was started');
    return pid;
  }, WORKER_LIMIT_MS);
}

/** At moments that are spread over the life of a worker: while it starts, when requests come again, and in full service. */
async function killWorkers(server: TestServer): Promise<void> {
  for (let i = 0; i < KILLS; i += 1) {
    const pid = await nextWorker(server, undefined);
    // Workers that never serve, several in a row, are another case.
    if (i % 3 === 0) await eventually(async () => expect((await statusOf(server)).pid).toBe(pid), WORKER_LIMIT_MS);
    await sleep((i * 373) % STAGGER_MS);
    process.kill(pid, 'SIGKILL');
    await nextWorker(server, pid);
  }
  await eventually(() => statusOf(server), WORKER_LIMIT_MS);
}

async function expectKept(server: TestServer, directory: string, report: LoadReport): Promise<void> {
  expect(report.failures).toEqual([]);
  expect(report.rounds).toBeGreaterThan(0);
  const names = Object.keys(report.files).sort();
  expect((await readdir(directory)).sort()).toEqual(names);
  for (const name of names) {
    const [here, inBucket] = await Promise.all([
      readFile(join(directory, name)),
      server.bucket.bytes(join(directory, name).slice(server.dir.length + 1)),
    ]);
    expect([digest(here), digest(inBucket)], name).toEqual([report.files[name], report.files[name]]);
  }
}

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

describe('workers that are killed', () => {
  test('under hot reads', { timeout: LIMIT_MS }, async () => {
    const server = await startServer();
    const load = await Load.start('hot', server, 1);
    await killWorkers(server);
    const report = await load.stop();
    await expectKept(server, load.directory, report);
    const { guardian } = await statusOf(server);
    expect(guardian).toMatchObject({ pid: server.pid, lastRestart: expect.stringContaining('signal 9') });
    await server.umount();
  });

  test.each(KERNELS)(
    'under hot reads in a view, and writing beside it, on $kernel',
    { timeout: LIMIT_MS },
    async ({ environment }) => {
      const view = await mkdtemp(join(tmpdir(), 'tsfs-view-'));
      const server = await startServer({ options: [`ro_view=${view}`], environment });
      const hot = await Load.start('hot', server, 5, view);
      const mixed = await Load.start('mixed', server, 6);
      await killWorkers(server);
      for (const load of [hot, mixed]) await expectKept(server, load.directory, await load.stop());
      // What changes after all this still reaches the kernel of the view.
      await writeFile(server.path('later'), 'content');
      await eventually(
        async () => expect(await readFile(join(view, 'later'), 'utf8')).toBe('content'),
        WORKER_LIMIT_MS,
      );
      await rename(server.path('later'), server.path('last'));
      await eventually(async () => expect(await readdir(view)).toContain('last'), WORKER_LIMIT_MS);
      await server.umount();
      expect(await findMount(view)).toBeUndefined();
      await rmdir(view);
    },
  );

  test('under mixed writing', { timeout: LIMIT_MS }, async () => {
    const server = await startServer();
    const running = await Promise.all([2, 3].map((seed) => Load.start('mixed', server, seed)));
    await killWorkers(server);
    for (const load of running) await expectKept(server, load.directory, await load.stop());
    await server.umount();
    // Nothing but what the loads left, and the markers of their directories.
    expect((await server.bucket.keys()).filter((key) => !/^mixed \d\/(file \d+)?$/.test(key))).toEqual([]);
  });
});

describe('a kernel that does not send requests again', () => {
  test('calls that waited when workers were killed, one after the other', { timeout: 90_000 }, async () => {
    const server = await startServer({ environment: OLD_KERNEL });
    await mkdir(server.path('old'));
    const release = server.proxy.addFault({ effect: { type: 'stall' }, operations: ['GET', 'LIST', 'HEAD', 'PUT'] });
    // No more than leave this process a thread to look around.
    const calls = [
      stat(server.path('missing')).catch((error: NodeJS.ErrnoException) => error.code),
      mkdir(server.path('new')).then(() => 'made'),
      // One request of 1 MiB.
      writeFile(server.path('large'), Buffer.alloc(1024 * 1024, 'x')).then(() => 'written'),
    ];
    await sleep(500);
    process.kill(await nextWorker(server, undefined), 'SIGKILL');
    await eventually(() => statusOf(server), WORKER_LIMIT_MS);
    await sleep(500);
    release();
    process.kill(await nextWorker(server, undefined), 'SIGKILL');
    expect(await Promise.all(calls)).toEqual(['ENOENT', 'made', 'written']);
    expect(await readFile(server.path('large'), 'latin1')).toBe('x'.repeat(1024 * 1024));
    expect((await readdir(server.dir)).sort()).toEqual(['large', 'new', 'old']);
    await server.umount();
  });
});

describe('the kernel is told of a change, and waits for a request', () => {
  /** A lookup in the view that is not answered until `release`: until then the news of a change in its directory waits too. */
  async function withNewsWaiting() {
    const view = await mkdtemp(join(tmpdir(), 'tsfs-view-'));
    const server = await startServer({ options: [`ro_view=${view}`] });
    await mkdir(server.path('d'));
    await writeFile(server.path('d', 'known'), 'content');
    await stat(join(view, 'd', 'known'));
    // The directory is wholly known for a while after it was made.
    await sleep(1500);
    const release = server.proxy.addFault({ effect: { type: 'stall' }, operations: ['GET', 'LIST', 'HEAD'] });
    const lookedUp = stat(join(view, 'd', 'missing')).catch((error: NodeJS.ErrnoException) => error.code);
    await sleep(500);
    await writeFile(server.path('d', 'known'), 'changed');
    await unlink(server.path('d', 'known'));
    await sleep(500);
    return { server, view, release, lookedUp };
  }

  test('a worker that is killed then is replaced', { timeout: 90_000 }, async () => {
    const { server, view, release, lookedUp } = await withNewsWaiting();
    release();
    process.kill((await server.workerPid()) as number, 'SIGKILL');
    expect(await lookedUp).toBe('ENOENT');
    // News that died with the worker is made up for by what the kernel believes no longer than `stat_cache_expire`.
    await eventually(async () => {
      await expect(stat(join(view, 'd', 'known'))).rejects.toMatchObject({ code: 'ENOENT' });
    }, WORKER_LIMIT_MS);
    expect((await statusOf(server)).guardian.restarts).toBe(1);
    await server.umount();
    await rmdir(view);
  });

  test('when guardian and worker are killed then, the call ends', { timeout: 90_000 }, async () => {
    const { server, view, lookedUp } = await withNewsWaiting();
    await server.kill();
    expect(await lookedUp).toMatch(/^(ECONNABORTED|ENOTCONN)$/);
    if ((await findMount(view)) !== undefined) await runProgram('umount', ['-i', '-l', view]);
    await rmdir(view);
  });
});

test('a restart that was asked for, under load', { timeout: 90_000 }, async () => {
  const server = await startServer();
  const load = await Load.start('mixed', server, 4);
  for (let i = 0; i < 3; i += 1) {
    const before = await statusOf(server);
    await runProgram(process.execPath, [CLI, 'restart', server.dir]);
    const after = await statusOf(server);
    expect(after.pid).not.toBe(before.pid);
    expect(after.guardian).toEqual({
      pid: before.guardian.pid,
      protocol: 1,
      restarts: before.guardian.restarts + 1,
      lastRestart: 'a restart was asked for',
    });
  }
  await expectKept(server, load.directory, await load.stop());
  await server.umount();
});

describe('other options, under load', () => {
  /** Resolves with what the command complains of. */
  function restart(server: TestServer, options: string): Promise<string> {
    const command = runProgram(process.execPath, [CLI, 'restart', server.dir, '-o', options]);
    return command.then(() => 'nothing', String);
  }

  async function configOf(server: TestServer): Promise<MountConfig> {
    return (JSON.parse(await readFile(await server.jobFile(), 'utf8')) as MountJob).config;
  }

  test('are taken over, and what cannot change is refused', { timeout: 90_000 }, async () => {
    const server = await startServer();
    const load = await Load.start('mixed', server, 9);
    const before = await configOf(server);
    expect(await restart(server, 'stat_cache_expire=61,dbglevel=dbg')).toBe('nothing');
    const after = await configOf(server);
    expect(after).toEqual({
      ...before,
      freshness: { ...before.freshness, expireMs: 61_000 },
      log: { ...before.log, level: 'debug' },
    });
    // Given options come over those of the mount, which has kept the first ones.
    expect(await restart(server, 'dbglevel=info')).toBe('nothing');
    expect(await configOf(server)).toEqual({ ...after, log: before.log });
    const served = await statusOf(server);
    expect(served.guardian.restarts).toBe(2);
    expect(await restart(server, 'ro,retries=3,allow_other')).toContain(
      'The options ro, allow_other cannot change while the bucket is mounted',
    );
    const keys = join(server.cacheDirectory, '..', 'keys');
    await writeFile(keys, 'AKIAWRONG:wrong', { mode: 0o600 });
    expect(await restart(server, `passwd_file=${keys}`)).toContain('does not accept the key');
    expect((await statusOf(server)).pid).toBe(served.pid);
    expect(await configOf(server)).toEqual({ ...after, log: before.log });
    await expectKept(server, load.directory, await load.stop());
    await server.umount();
  });

  test('that no worker can start with are taken back', { timeout: 90_000 }, async () => {
    const server = await startServer({ environment: FAULTY });
    const load = await Load.start('mixed', server, 10);
    const before = await configOf(server);
    expect(await restart(server, 'dbglevel=crit')).toContain('The new options were taken back');
    expect(await configOf(server)).toEqual(before);
    await expectKept(server, load.directory, await load.stop());
    await server.umount();
  });
});

describe('unmounted while no worker is there', () => {
  /** Leaves a mount with a file that the bucket does not have, and workers that do not start until `repair`. */
  async function withoutWorker(): Promise<{ server: TestServer; repair: () => Promise<void> }> {
    const server = await startServer({ options: ['durability=local', 'retries=0'] });
    const release = server.proxy.addFault({ effect: { type: 'reset' }, operations: ['PUT'] });
    await writeFile(server.path('file'), 'content');
    const job = await readFile(await server.jobFile());
    await writeFile(await server.jobFile(), 'not a job');
    process.kill((await server.workerPid()) as number, 'SIGKILL');
    await eventually(async () => expect(server.log).toContain('ended before it was ready'), WORKER_LIMIT_MS);
    const repair = async () => {
      release();
      await writeFile(await server.jobFile(), job);
    };
    return { server, repair };
  }

  test('tsfs umount waits for the next one, and for the uploads', async () => {
    const { server, repair } = await withoutWorker();
    const command = runProgram(process.execPath, [CLI, 'umount', server.dir]);
    await repair();
    await command;
    expect(await server.bucket.text('file')).toBe('content');
    await expect(server.exit()).resolves.toBe(0);
  });

  test('umount(8) does not, and the next one uploads all the same', async () => {
    const { server, repair } = await withoutWorker();
    await runProgram('umount', ['-i', '-l', server.dir]);
    expect(await findMount(server.dir)).toBeUndefined();
    await repair();
    await expect(server.exit()).resolves.toBe(0);
    expect(await server.bucket.text('file')).toBe('content');
  });
});

test('a worker that hangs is replaced', { timeout: 90_000 }, async () => {
  process.env.TSFS_WATCHDOG_MS = `${WATCHDOG_SECONDS * 1000}`;
  const server = await startServer();
  await writeFile(server.path('file'), 'content');
  const hung = await server.workerPid();
  process.kill(hung as number, 'SIGSTOP');
  await expect(readFile(server.path('file'), 'utf8')).resolves.toBe('content');
  await writeFile(server.path('other'), 'content');
  const status = await statusOf(server);
  expect(status.pid).not.toBe(hung);
  expect(status.guardian.lastRestart).toBe(`it did not answer for ${WATCHDOG_SECONDS} s`);
  await server.umount();
});

/** Three, and one more each time that another request came after the deadly one: it was not known then which of them it was. */
function expectFewRestarts(guardian: { restarts: number; lastRestart?: string | undefined }, why: string): void {
  expect(guardian.restarts).toBeGreaterThanOrEqual(3);
  expect(guardian.restarts).toBeLessThanOrEqual(6);
  expect(guardian.lastRestart).toBe(why);
}

describe('a request that workers die of', () => {
  test('by a crash: it gets EIO, and nothing else does', { timeout: 90_000 }, async () => {
    const server = await startServer({ environment: FAULTY });
    await writeFile(server.path('file'), 'content');
    const load = await Load.start('mixed', server, 7);
    await expect(stat(server.path('crash'))).rejects.toMatchObject({ code: 'EIO' });
    await expectKept(server, load.directory, await load.stop());
    expect(server.log).toContain('workers broke down one after the other with this request: it gets EIO');
    expect(server.log).toContain('"operation":"LOOKUP"');
    const { guardian } = await statusOf(server);
    expectFewRestarts(guardian, 'it ended with status 70');
    await server.umount();
  });

  test('by an endless loop: files in use are read all the while', { timeout: 120_000 }, async () => {
    process.env.TSFS_WATCHDOG_MS = `${WATCHDOG_SECONDS * 1000}`;
    const server = await startServer({ environment: FAULTY });
    const load = await Load.start('hot', server, 8);
    await expect(stat(server.path('spin'))).rejects.toMatchObject({ code: 'EIO' });
    await expectKept(server, load.directory, await load.stop());
    const { guardian } = await statusOf(server);
    expectFewRestarts(guardian, `it did not answer for ${WATCHDOG_SECONDS} s`);
    await server.umount();
  });
});

test('a worker refuses a guardian that speaks another protocol', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tsfs-greeting-'));
  const path = join(directory, 'greeting');
  await writeFile(path, `${JSON.stringify({ protocol: 2, restarts: 1, reason: '' })}\n`);
  const greeting = openSync(path, 'r');
  const worker = spawn(process.execPath, [WORKER, 'job'], { stdio: ['ignore', 'ignore', 'pipe', 'ignore', greeting] });
  let said = '';
  worker.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const [status] = await once(worker, 'close');
  expect(status).toBe(1);
  expect(said).toMatch(
    /^tsfs: This mount was made by another version .* protocol 2, .*: unmount it, and mount it again\.$/m,
  );
  closeSync(greeting);
  await rm(directory, { recursive: true });
});

test('workers that end at once again and again: the mount is taken away', { timeout: 120_000 }, async () => {
  const server = await startServer();
  await writeFile(await server.jobFile(), 'not a job');
  const pid = (await server.workerPid()) as number;
  process.kill(pid, 'SIGKILL');
  await expect(server.exit()).resolves.toBe(1);
  expect(server.log).toContain(`8 workers in a row ended at once (it ended with status 1); unmounting ${server.dir}`);
  expect(await readFile('/proc/self/mounts', 'utf8')).not.toContain(server.dir);
});
