/** Where a benchmark happens: an object store on loopback, a scratch directory, and the mounts of this run. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { run } from '../scripts/lib/programs.ts';
import { type Rgw, startRgw } from '../test/support/rgw.ts';
import type { MountedTarget, Target } from './targets.ts';

/** Content by path, relative to the root of the mount. */
export type Files = ReadonlyMap<string, Uint8Array>;

const PARALLEL_UPLOADS = 16;
const CYCLE_SOURCE = new URL('./cycle.c', import.meta.url).pathname;

export class Lab {
  readonly scratch: string;
  readonly rgw: Rgw;
  readonly #client: S3Client;
  readonly #mounts = new Set<MountedTarget>();
  #count = 0;

  private constructor(scratch: string, rgw: Rgw) {
    this.scratch = scratch;
    this.rgw = rgw;
    this.#client = new S3Client({
      endpoint: rgw.endpoint,
      region: 'us-east-1',
      forcePathStyle: true,
      credentials: { accessKeyId: rgw.accessKeyId, secretAccessKey: rgw.secretAccessKey },
      requestChecksumCalculation: 'WHEN_REQUIRED',
    });
  }

  static async open(): Promise<Lab> {
    const scratch = await mkdtemp(join(tmpdir(), 'tsfs-bench-'));
    try {
      return new Lab(scratch, await startRgw({ dir: scratch }));
    } catch (error) {
      await rm(scratch, { recursive: true, force: true });
      throw error;
    }
  }

  /** A mount of a new bucket that holds `files`, or a directory of the local disk that does. */
  async mount(target: Target, files: Files, endpoint = this.rgw.endpoint): Promise<MountedTarget> {
    this.#count += 1;
    const name = `${target.name}-${this.#count}`;
    const directory = join(this.scratch, name);
    await mkdir(directory);
    if (target.name === 'local') await fillDirectory(directory, files);
    else await this.#fillBucket(name, files);
    const { accessKeyId, secretAccessKey } = this.rgw;
    const mounted = await target.mount({ endpoint, accessKeyId, secretAccessKey, bucket: name, directory });
    this.#mounts.add(mounted);
    return mounted;
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
    this.#client.destroy();
    await this.rgw.stop();
    const stuck = results.find((result) => result.status === 'rejected');
    if (stuck !== undefined) throw stuck.reason;
    await rm(this.scratch, { recursive: true, force: true });
  }

  async #fillBucket(Bucket: string, files: Files): Promise<void> {
    await this.#client.send(new CreateBucketCommand({ Bucket }));
    const queue = files.entries();
    const upload = async () => {
      for (const [Key, Body] of queue) await this.#client.send(new PutObjectCommand({ Bucket, Key, Body }));
    };
    await Promise.all(Array.from({ length: PARALLEL_UPLOADS }, upload));
  }
}

async function fillDirectory(directory: string, files: Files): Promise<void> {
  for (const [path, content] of files) {
    await mkdir(dirname(join(directory, path)), { recursive: true });
    await writeFile(join(directory, path), content);
  }
}
