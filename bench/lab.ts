/** Where a benchmark happens: an object store on loopback, a scratch directory, and the mounts of this run. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type Files, fillBucket } from '../scripts/lib/fill.ts';
import { type Gateway, startGateway } from '../scripts/lib/gateway.ts';
import { run } from '../scripts/lib/programs.ts';
import { createBucket, openBucket } from '../test/support/buckets.ts';
import type { MountedTarget, Target } from './targets.ts';

const CYCLE_SOURCE = new URL('./cycle.c', import.meta.url).pathname;

export class Lab {
  readonly scratch: string;
  readonly gateway: Gateway;
  readonly #mounts = new Set<MountedTarget>();
  #count = 0;

  private constructor(scratch: string, gateway: Gateway) {
    this.scratch = scratch;
    this.gateway = gateway;
  }

  static async open(signal: AbortSignal): Promise<Lab> {
    const scratch = await mkdtemp(join(tmpdir(), 'tsfs-bench-'));
    try {
      return new Lab(scratch, await startGateway(scratch, signal));
    } catch (error) {
      await rm(scratch, { recursive: true, force: true });
      throw error;
    }
  }

  /** A mount of a new bucket that holds `files`, or a directory of the local disk that does. */
  async mount(target: Target, files: Files, endpoint = this.gateway.endpoint): Promise<MountedTarget> {
    this.#count += 1;
    const name = `${target.name}-${this.#count}`;
    const directory = join(this.scratch, name);
    await mkdir(directory);
    if (target.name === 'local') await fillDirectory(directory, files);
    else await this.#fillBucket(name, files);
    const { accessKeyId, secretAccessKey } = this.gateway;
    const mounted = await target.mount({ endpoint, accessKeyId, secretAccessKey, bucket: name, directory });
    this.#mounts.add(mounted);
    return mounted;
  }

  async unmount(mounted: MountedTarget): Promise<void> {
    await mounted.unmount();
    this.#mounts.delete(mounted);
  }

  /** Compiles the measuring program; its path. */
  async cycleProgram(): Promise<string> {
    const program = join(this.scratch, 'cycle');
    await run('gcc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', program, CYCLE_SOURCE]);
    return program;
  }

  /** Unmounts everything, ends the store, removes the scratch directory unless a mount is stuck in it. */
  async close(): Promise<void> {
    const results = await Promise.allSettled([...this.#mounts].map((mounted) => mounted.unmount()));
    await this.gateway.stop();
    const stuck = results.find((result) => result.status === 'rejected');
    if (stuck !== undefined) throw stuck.reason;
    await rm(this.scratch, { recursive: true, force: true });
  }

  async #fillBucket(bucket: string, files: Files): Promise<void> {
    await createBucket(this.gateway, bucket);
    const store = openBucket(this.gateway, bucket);
    try {
      await fillBucket(store, files);
    } finally {
      store.close();
    }
  }
}

async function fillDirectory(directory: string, files: Files): Promise<void> {
  for (const [path, content] of files) {
    await mkdir(dirname(join(directory, path)), { recursive: true });
    await writeFile(join(directory, path), content);
  }
}
