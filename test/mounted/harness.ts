/**
 * Real mounts for tests: the CLI in a process of its own, over the gateway of the test run, through a proxy that counts
 * requests and can fail them. Mounts started within a test end with it, the others with the file, however the tests end.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeEach } from 'vitest';
import { testServer } from '../support/buckets.ts';
import { daemonEnvironment } from '../support/daemon-environment.ts';
import { type FaultProxy, startProxy } from '../support/proxy.ts';
import type { S3Operation } from '../support/s3-operation.ts';
import { TestBucket } from './bucket.ts';
import { connectionsOf, expectNobodyWaits } from './connections.ts';
import { runProgram } from './syscalls.ts';

export interface ServerOptions {
  /** Mounted; a new one when absent. */
  readonly bucket?: TestBucket;
  /** `-o` options besides those that every mount here has. */
  readonly options?: readonly string[];
  /**
   * Without the proxy. For tests that start processes while they have files of the mount open: exec(2) closes the descriptors that the child
   * inherited, which flushes them, while spawn(2) blocks this process, and with it the proxy.
   */
  readonly direct?: boolean;
  /** Of the daemon, beside that of this process. */
  readonly environment?: Readonly<Record<string, string>>;
}

const CLI = join(import.meta.dirname, '../../src/cli/main.ts');
/** Programs under a sanitizer take several times as long. */
export const PATIENCE = Number(process.env.TSFS_TEST_PATIENCE ?? 1);
const READY_LIMIT_MS = 30_000 * PATIENCE;
const EXIT_LIMIT_MS = 30_000 * PATIENCE;
const LOG_CHARACTERS = 200_000;
/** The worker's last word before it serves. */
const MOUNTED = '"msg":"mounted"';

/** `-o` options of all mounts of a run, to test another way of working: `no_hot_table`, `no_passthrough`. */
const EVERYWHERE = (process.env.TSFS_TEST_OPTIONS ?? '').split(',').filter((option) => option !== '');

const servers = new Set<TestServer>();
let isInTest = false;

export async function newBucket(): Promise<TestBucket> {
  const bucket = await TestBucket.create();
  buckets.add(bucket);
  return bucket;
}

const buckets = new Set<TestBucket>();

/** Mounts on a new server: another host's mount of the same bucket, as far as anybody can tell. */
export async function startServer(options: ServerOptions = {}): Promise<TestServer> {
  const server = new TestServer({
    directory: await mkdtemp(join(tmpdir(), 'tsfs-mounted-')),
    bucket: options.bucket ?? (await newBucket()),
    proxy: await startProxy({ upstream: testServer().endpoint }),
    options: options.options ?? [],
    direct: options.direct ?? false,
    environment: options.environment ?? {},
    endsWithTest: isInTest,
  });
  servers.add(server);
  await mkdir(server.dir);
  await server.mount();
  return server;
}

interface ServerParts {
  readonly directory: string;
  readonly bucket: TestBucket;
  readonly proxy: FaultProxy;
  readonly direct: boolean;
  readonly options: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly endsWithTest: boolean;
}

export class TestServer {
  readonly #parts: ServerParts;
  /** The mount point. */
  readonly dir: string;
  readonly #connections = new Set<number>();
  #daemon: ChildProcess | undefined;
  #log = '';

  constructor(parts: ServerParts) {
    this.#parts = parts;
    this.dir = join(parts.directory, 'mnt');
  }

  get bucket(): TestBucket {
    return this.#parts.bucket;
  }

  get proxy(): FaultProxy {
    return this.#parts.proxy;
  }

  get endsWithTest(): boolean {
    return this.#parts.endsWithTest;
  }

  /** The end of what the daemon has logged. */
  get log(): string {
    return this.#log;
  }

  /** Cache, state and staging of this server. */
  get cacheDirectory(): string {
    return join(this.#parts.directory, 'cache');
  }

  path(...names: string[]): string {
    return join(this.dir, ...names);
  }

  /** `options` come after the server's own, and win. */
  async mount(options: readonly string[] = []): Promise<void> {
    const { directory, bucket, proxy, direct, environment } = this.#parts;
    const { endpoint, accessKeyId, secretAccessKey } = testServer();
    const all = [
      `url=${direct ? endpoint : proxy.endpoint}`,
      'use_path_request_style',
      `use_cache=${this.cacheDirectory}`,
      `state_dir=${join(directory, 'state')}`,
      ...EVERYWHERE,
      ...this.#parts.options,
      ...options,
    ];
    const command = [CLI, 'mount', bucket.name, this.dir, '--foreground', '-o', all.join(',')];
    // The kernel ends the daemon when this process dies, however it dies; with the daemon, its mount stops answering.
    const daemon = spawn('setpriv', ['--pdeathsig', 'KILL', process.execPath, ...command], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        ...daemonEnvironment(),
        ...environment,
        AWSACCESSKEYID: accessKeyId,
        AWSSECRETACCESSKEY: secretAccessKey,
      },
    });
    this.#daemon = daemon;
    let isMounted = false;
    for (const stream of [daemon.stdout, daemon.stderr]) {
      let end = '';
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.#log = (this.#log + text).slice(-LOG_CHARACTERS);
        // A message may come in two pieces.
        end = end.slice(-MOUNTED.length) + text;
        isMounted ||= end.includes(MOUNTED);
      });
    }
    const deadlineMs = performance.now() + READY_LIMIT_MS;
    while (!isMounted) {
      if (hasEnded(daemon)) throw new Error(`the daemon ended with status ${daemon.exitCode}:\n${this.#log}`);
      if (performance.now() > deadlineMs) {
        const requests = JSON.stringify(proxy.counts());
        throw new Error(`not mounted in time; ${await whereabouts(this.pid)}; requests ${requests}:\n${this.#log}`);
      }
      await sleep(10);
    }
    for (const connection of await connectionsOf(bucket.name)) this.#connections.add(connection);
  }

  /** umount(8) without its helpers (`umount.fuse.tsfs` may be there, of another version), and then the end of the daemon. */
  async umount(): Promise<void> {
    const daemon = this.#daemon;
    await runProgram('umount', ['-i', this.dir]);
    if (daemon === undefined || !(await ended(daemon, EXIT_LIMIT_MS))) {
      throw new Error(`the daemon is still there after umount:\n${this.#log}`);
    }
    if (daemon.exitCode !== 0) throw new Error(`the daemon ended with status ${daemon.exitCode}:\n${this.#log}`);
    this.#daemon = undefined;
  }

  /** A crash: SIGKILL, no chance to clean up. The dead mount is taken away. */
  async kill(): Promise<void> {
    const daemon = this.#daemon;
    this.#daemon = undefined;
    if (daemon?.pid !== undefined && !hasEnded(daemon)) {
      // In the foreground the worker dies with the guardian, a moment later.
      const workers = await childrenOf(daemon.pid);
      daemon.kill('SIGKILL');
      if (!(await ended(daemon, EXIT_LIMIT_MS))) throw new Error(`pid ${daemon.pid} does not die`);
      await eventually(async () => {
        if (workers.some(isAlive)) throw new Error(`the workers ${workers} do not die`);
      }, EXIT_LIMIT_MS);
    }
    while ((await readFile('/proc/self/mounts', 'utf8')).includes(` ${this.dir} fuse`)) {
      await runProgram('umount', ['-i', '-l', this.dir]);
    }
  }

  async remount(options: readonly string[] = []): Promise<void> {
    await this.umount();
    await this.mount(options);
  }

  /** The guardian. */
  get pid(): number {
    if (this.#daemon?.pid === undefined) throw new Error('not mounted');
    return this.#daemon.pid;
  }

  /** Undefined while one is replaced by the next. */
  async workerPid(): Promise<number | undefined> {
    for (const pid of await childrenOf(this.pid)) {
      const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '');
      if (name !== '' && name !== 'tsfs-notifier\n') return pid;
    }
    return undefined;
  }

  /** What each worker reads when it starts. */
  async jobFile(): Promise<string> {
    const state = join(this.#parts.directory, 'state');
    const [name] = await readdir(state);
    return join(state, name as string, 'mount.json');
  }

  /** The exit status, once the daemon ends by itself. */
  async exit(): Promise<number | null> {
    const daemon = this.#daemon;
    if (daemon === undefined || !(await ended(daemon, EXIT_LIMIT_MS))) throw new Error('the daemon does not end');
    return daemon.exitCode;
  }

  /** Resident memory of the worker. */
  async residentBytes(): Promise<number> {
    const status = await readFile(`/proc/${await this.workerPid()}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
  }

  /** Requests to the store since the last `resetRequests`, by operation, e.g. `{ GET: 1 }`. */
  requests(): Partial<Record<S3Operation, number>> {
    return this.proxy.counts();
  }

  resetRequests(): void {
    this.proxy.reset();
  }

  async close(): Promise<void> {
    servers.delete(this);
    await this.kill();
    await this.proxy.stop();
    await rm(this.#parts.directory, { recursive: true });
    await expectNobodyWaits(this.#connections);
  }
}

async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return text.split(' ').filter(Boolean).map(Number);
}

/** Where in the kernel the threads of a process and of its children wait. */
async function whereabouts(pid: number): Promise<string> {
  const read = (path: string) => readFile(path, 'utf8').then((text) => text.trim(), errorName);
  const places: string[] = [];
  for (const each of [pid, ...(await childrenOf(pid))]) {
    const threads = await readdir(`/proc/${each}/task`).catch(() => []);
    const waits = threads.map((thread) => read(`/proc/${each}/task/${thread}/wchan`));
    places.push(`${await read(`/proc/${each}/comm`)} (${each}) in ${(await Promise.all(waits)).join(' ')}`);
  }
  return places.join(', ');
}

function errorName(error: NodeJS.ErrnoException): string {
  return error.code ?? error.message;
}

/** Not a zombie either. */
function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.charAt(stat.lastIndexOf(')') + 2) !== 'Z';
  } catch {
    return false;
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

async function ended(child: ChildProcess, limitMs: number): Promise<boolean> {
  if (hasEnded(child)) return true;
  const exit = new Promise<boolean>((resolve) => child.once('exit', () => resolve(true)));
  return Promise.race([exit, sleep(limitMs, false, { ref: false })]);
}

/** Waits until the check holds; throws its last reason when it does not in time. */
export async function eventually<T>(check: () => Promise<T>, limitMs: number): Promise<T> {
  const deadlineMs = performance.now() + limitMs;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (performance.now() > deadlineMs) throw error;
    }
    await sleep(50);
  }
}

beforeEach(() => {
  isInTest = true;
});

afterEach(async (context) => {
  isInTest = false;
  if (context.task.result?.state === 'fail') {
    for (const server of servers) console.error(`--- ${server.dir}\n${server.log.slice(-4000)}`);
  }
  for (const server of [...servers]) if (server.endsWithTest) await server.close();
});

afterAll(async () => {
  for (const server of [...servers]) await server.close();
  for (const bucket of buckets) bucket.close();
});
