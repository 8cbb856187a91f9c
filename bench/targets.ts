/** The file systems that are compared: the local disk, tsfs, and its peers where they are installed. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isMounted, unmount, waitUntilMounted } from '../scripts/lib/mounts.ts';
import { Background, findProgram, run } from '../scripts/lib/programs.ts';

export interface MountRequest {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly bucket: string;
  /** An empty directory of the target's own: mount point, cache and state go there. */
  readonly directory: string;
}

export interface MountedTarget {
  /** Where the bucket's files are. */
  readonly root: string;
  unmount(): Promise<void>;
}

export interface Target {
  readonly name: string;
  /** How long after close() the last upload may begin. */
  readonly writeBackMs: number;
  /** Undefined where it is not installed. */
  version(): Promise<string | undefined>;
  mount(request: MountRequest): Promise<MountedTarget>;
}

/** Rclone's default delay of uploads (`--vfs-write-back`). */
const RCLONE_WRITE_BACK_MS = 5_000;
const STOP_GRACE_MS = 20_000;
const TSFS = new URL('../scripts/tsfs', import.meta.url).pathname;

const local: Target = {
  name: 'local',
  writeBackMs: 0,
  version: async () => (await run('uname', ['-r'])).stdout.trim(),
  mount: async ({ directory }) => ({ root: directory, unmount: async () => {} }),
};

const tsfs: Target = {
  name: 'tsfs',
  writeBackMs: 0,
  version: () => firstLine(TSFS, ['--version']),
  mount: async (request) => {
    const { mountpoint, options } = await s3fsOptions(request);
    const own = `state_dir=${join(request.directory, 'state')},logfile=${join(request.directory, 'log')}`;
    return mountWith(mountpoint, TSFS, [
      'mount',
      '--foreground',
      request.bucket,
      mountpoint,
      '-o',
      `${options},${own}`,
    ]);
  },
};

const s3fs: Target = {
  name: 's3fs',
  writeBackMs: 0,
  version: () => firstLine('s3fs', ['--version']),
  mount: async (request) => {
    const { mountpoint, options } = await s3fsOptions(request);
    return mountWith(mountpoint, 's3fs', [request.bucket, mountpoint, '-f', '-o', options]);
  },
};

const rclone: Target = {
  name: 'rclone',
  writeBackMs: RCLONE_WRITE_BACK_MS,
  version: () => firstLine('rclone', ['version']),
  mount: async (request) => {
    const mountpoint = await makeDirectories(request.directory);
    const cache = ['--vfs-cache-mode', 'full', '--cache-dir', join(request.directory, 'cache')];
    const ttl = ['--dir-cache-time', '10s', '--attr-timeout', '10s'];
    // It takes no file of keys. AWS_CA_BUNDLE would make it refuse plain HTTP.
    const { AWS_CA_BUNDLE: _, ...rest } = process.env;
    const env = {
      ...rest,
      RCLONE_CONFIG: join(request.directory, 'no-config'),
      RCLONE_CONFIG_BENCH_TYPE: 's3',
      RCLONE_CONFIG_BENCH_PROVIDER: 'Ceph',
      RCLONE_CONFIG_BENCH_ENDPOINT: request.endpoint,
      RCLONE_CONFIG_BENCH_ACCESS_KEY_ID: request.accessKeyId,
      RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY: request.secretAccessKey,
    };
    return mountWith(mountpoint, 'rclone', ['mount', `bench:${request.bucket}`, mountpoint, ...cache, ...ttl], env);
  },
};

/** The local disk first: it is what the others are compared with. */
export const TARGETS: readonly Target[] = [local, tsfs, s3fs, rclone];

async function firstLine(program: string, args: string[]): Promise<string | undefined> {
  if (!program.includes('/') && (await findProgram(program)) === undefined) return undefined;
  return (await run(program, args, { limitMs: 120_000 })).stdout.split('\n')[0]?.trim();
}

/** The same words for s3fs and tsfs. */
async function s3fsOptions(request: MountRequest): Promise<{ mountpoint: string; options: string }> {
  const mountpoint = await makeDirectories(request.directory);
  const passwd = join(request.directory, 'passwd');
  await writeFile(passwd, `${request.accessKeyId}:${request.secretAccessKey}\n`, { mode: 0o600 });
  const cache = join(request.directory, 'cache');
  return {
    mountpoint,
    options: `url=${request.endpoint},use_path_request_style,passwd_file=${passwd},use_cache=${cache}`,
  };
}

async function makeDirectories(directory: string): Promise<string> {
  const mountpoint = join(directory, 'mnt');
  for (const path of [mountpoint, join(directory, 'cache'), join(directory, 'state')]) await mkdir(path);
  return mountpoint;
}

async function mountWith(
  mountpoint: string,
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<MountedTarget> {
  const daemon = new Background(program, args, env);
  const stop = async () => {
    await unmount(mountpoint);
    await daemon.stop(STOP_GRACE_MS);
    if (await isMounted(mountpoint)) await unmount(mountpoint);
  };
  try {
    await waitUntilMounted(mountpoint, daemon);
  } catch (error) {
    await stop();
    throw error;
  }
  return { root: mountpoint, unmount: stop };
}
