/** Where a benchmark happens: an object store on loopback, a scratch directory, and the mounts of this run. */
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Files } from '../scripts/lib/fill.ts';
import { type Gateway, startGateway } from '../scripts/lib/gateway.ts';
import { run } from '../scripts/lib/programs.ts';
import { createBucket, openBucket, type Server, testServer } from '../test/support/buckets.ts';
import { DataSet, writeFiles } from './data-set.ts';
import type { MountedTarget, Target } from './targets.ts';

const PROGRAMS = new URL('./programs/', import.meta.url).pathname;
const STORED_POLL_MS = 50;
const FORGET_LIMIT_MS = 60_000;

export class Lab {
  readonly scratch: string;
  readonly server: Server;
  readonly #gateway: Gateway | undefined;
  readonly #mounts = new Set<MountedTarget>();
  readonly #programs = new Map<string, Promise<string>>();
  /** No two runs share the name of a bucket. */
  readonly #id = randomBytes(4).toString('hex');
  #count = 0;

  private constructor(scratch: string, server: Server, gateway?: Gateway) {
    this.scratch = scratch;
    this.server = server;
    this.#gateway = gateway;
  }

  /** Starts an object store, unless the environment names one that runs for tests. */
  static async open(signal: AbortSignal): Promise<Lab> {
    const scratch = await mkdtemp(join(tmpdir(), 'tsfs-bench-'));
    try {
      if (process.env.TSFS_TEST_ENDPOINT !== undefined) return new Lab(scratch, testServer());
      const gateway = await startGateway(scratch, signal);
      return new Lab(scratch, gateway, gateway);
    } catch (error) {
      await rm(scratch, { recursive: true, force: true });
      throw error;
    }
  }

  dataSet(files: Files = new Map()): DataSet {
    const name = this.#name('data');
    return new DataSet(name, files, this.server, join(this.scratch, name));
  }

  /** A mount with nothing cached. `endpoint`: of what stands in front of the store. */
  async mount(target: Target, data: DataSet, endpoint = this.server.endpoint): Promise<MountedTarget> {
    if (target.format === 'disk') return { root: await data.directory(), unmount: async () => {} };
    if (target.format === 'built-in') return this.mountBucket(target, data.name, endpoint);
    const bucket = target.format === 'objects' ? await data.bucket() : await this.#fillThrough(target, data);
    return this.mountBucket(target, bucket, endpoint);
  }

  async mountBucket(target: Target, bucket: string, endpoint: string): Promise<MountedTarget> {
    const mounted = await target.mount(await this.#request(target, bucket, endpoint));
    this.#mounts.add(mounted);
    return mounted;
  }

  async unmount(mounted: MountedTarget): Promise<void> {
    await mounted.unmount();
    this.#mounts.delete(mounted);
  }

  /**
   * Drops what the kernel holds of files on the local disk. What was just written lies in larger pieces of memory, and is faster to copy, than what
   * was read from the disk, as it is on a server that has run for a while, and as all others have it.
   */
  async forget(directory: string): Promise<void> {
    await run(await this.program('forget'), [directory], { limitMs: FORGET_LIMIT_MS });
  }

  /** Resolves when the bucket has an object of this size; rejects when that takes too long. */
  async untilStored(bucket: string, key: string, sizeBytes: number, limitMs: number): Promise<void> {
    const store = openBucket(this.server, bucket);
    const deadlineMs = performance.now() + limitMs;
    try {
      while (
        !(await store.head(key).then(
          (head) => head.sizeBytes === sizeBytes,
          () => false,
        ))
      ) {
        if (performance.now() > deadlineMs) throw new Error(`"${key}" was not uploaded within ${limitMs / 1000} s`);
        await sleep(STORED_POLL_MS);
      }
    } finally {
      store.close();
    }
  }

  /** Compiles a measuring program; its path. */
  program(name: string): Promise<string> {
    const known = this.#programs.get(name) ?? this.#compile(name);
    this.#programs.set(name, known);
    return known;
  }

  /** Unmounts everything, ends the store, removes the scratch directory unless a mount is stuck in it. */
  async close(): Promise<void> {
    const results = await Promise.allSettled([...this.#mounts].map((mounted) => mounted.unmount()));
    await this.#gateway?.stop();
    const stuck = results.find((result) => result.status === 'rejected');
    if (stuck !== undefined) throw stuck.reason;
    await rm(this.scratch, { recursive: true, force: true });
  }

  #name(prefix: string): string {
    this.#count += 1;
    return `${prefix}-${this.#id}-${this.#count}`;
  }

  async #request(target: Target, bucket: string, endpoint: string) {
    const { accessKeyId, secretAccessKey } = this.server;
    const directory = join(this.scratch, this.#name(target.name));
    await mkdir(directory);
    const bucketDirectory = join(this.scratch, `${bucket}-own`);
    return { endpoint, accessKeyId, secretAccessKey, bucket, directory, bucketDirectory };
  }

  /** Writes the files by way of the target, into a bucket of its own; the bucket. */
  async #fillThrough(target: Target, data: DataSet): Promise<string> {
    const bucket = this.#name(target.name);
    await createBucket(this.server, bucket);
    await target.prepare?.(await this.#request(target, bucket, this.server.endpoint));
    const mounted = await this.mountBucket(target, bucket, this.server.endpoint);
    await writeFiles(mounted.root, data.files);
    await this.unmount(mounted);
    return bucket;
  }

  #compile(name: string): Promise<string> {
    return compileProgram(name, this.scratch);
  }
}

/** Its path, in the directory. */
export async function compileProgram(name: string, directory: string): Promise<string> {
  const program = join(directory, name);
  await run('gcc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', program, join(PROGRAMS, `${name}.c`)]);
  return program;
}
