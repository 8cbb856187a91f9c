/** Other file systems over S3, each as its users mount it for this purpose. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../scripts/lib/programs.ts';
import { type MountRequest, makeDirectories, mountWith, type Target, versionOf } from '../targets.ts';
import { writePasswd } from './tsfs.ts';

const REGION = 'us-east-1';
/** Rclone's default delay of uploads (`--vfs-write-back`). */
const RCLONE_WRITE_BACK_MS = 5_000;

const PEER = { format: 'objects', writable: true, isVariant: false, writeBackMs: 0 } as const;

/** As web servers mount it (the Agile Deployment Toolkit does); its stat cache large enough for every suite. */
const S3FS_OPTIONS = 'use_path_request_style,kernel_cache,max_stat_cache_size=1000000';

const s3fs: Target = {
  ...PEER,
  name: 's3fs',
  availability: () => versionOf('s3fs', ['--version'], `use_cache,${S3FS_OPTIONS}`),
  mount: async (request) => {
    const { mountpoint, cache } = await makeDirectories(request);
    const options = `url=${request.endpoint},passwd_file=${await writePasswd(request)},use_cache=${cache},${S3FS_OPTIONS}`;
    const args = [request.bucket, mountpoint, '-f', '-o', options];
    return mountWith({ program: 's3fs', args, mountpoints: [mountpoint] });
  },
};

const RCLONE_OPTIONS = '--vfs-cache-mode full --dir-cache-time 10s --attr-timeout 10s';

const rclone: Target = {
  ...PEER,
  name: 'rclone',
  writeBackMs: RCLONE_WRITE_BACK_MS,
  availability: () => versionOf('rclone', ['version'], RCLONE_OPTIONS),
  mount: async (request) => {
    const { mountpoint, cache } = await makeDirectories(request);
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
    const args = ['mount', `bench:${request.bucket}`, mountpoint, '--cache-dir', cache, ...RCLONE_OPTIONS.split(' ')];
    return mountWith({ program: 'rclone', args, env, mountpoints: [mountpoint] });
  },
};

/** Goofys and its descendant geesefs have one command line. Neither keeps contents on disk by default. */
function goofys(name: string): Target {
  return {
    ...PEER,
    name,
    availability: () => versionOf(name, ['--version'], ''),
    mount: async (request) => {
      const { mountpoint } = await makeDirectories(request);
      const args = ['-f', '--region', REGION, '--endpoint', request.endpoint, request.bucket, mountpoint];
      return mountWith({ program: name, args, env: keysOf(request), mountpoints: [mountpoint] });
    },
  };
}

const MOUNT_S3_OPTIONS = '--allow-delete --allow-overwrite --metadata-ttl 60';

const mountS3: Target = {
  ...PEER,
  name: 'mount-s3',
  availability: () => versionOf('mount-s3', ['--version'], `--cache ${MOUNT_S3_OPTIONS}`),
  mount: async (request) => {
    const { mountpoint, cache } = await makeDirectories(request);
    const where = ['--region', REGION, '--endpoint-url', request.endpoint, '--force-path-style', '--cache', cache];
    const args = ['--foreground', ...where, ...MOUNT_S3_OPTIONS.split(' '), request.bucket, mountpoint];
    return mountWith({ program: 'mount-s3', args, env: keysOf(request), mountpoints: [mountpoint] });
  },
};

const JUICEFS_LIMIT_MS = 60_000;

const juicefs: Target = {
  ...PEER,
  name: 'juicefs',
  format: 'own',
  availability: () => versionOf('juicefs', ['version'], 'metadata in SQLite'),
  prepare: async (request) => {
    const { accessKeyId, secretAccessKey, endpoint, bucket } = request;
    await mkdir(request.bucketDirectory, { recursive: true });
    const args = ['format', '--storage', 's3', '--bucket', `${endpoint}/${bucket}`, juicefsMetadata(request), 'bench'];
    const env = { ...process.env, ACCESS_KEY: accessKeyId, SECRET_KEY: secretAccessKey };
    await run('juicefs', args, { env, limitMs: JUICEFS_LIMIT_MS });
  },
  mount: async (request) => {
    const { mountpoint, cache } = await makeDirectories(request);
    // The endpoint is part of the format: a proxy of this mount must be named anew.
    const bucket = `${request.endpoint}/${request.bucket}`;
    const args = ['mount', '--cache-dir', cache, '--bucket', bucket, '--no-usage-report', juicefsMetadata(request)];
    return mountWith({ program: 'juicefs', args: [...args, mountpoint], mountpoints: [mountpoint] });
  },
};

function juicefsMetadata({ bucketDirectory }: MountRequest): string {
  return `sqlite3://${join(bucketDirectory, 'metadata.db')}`;
}

function keysOf({ accessKeyId, secretAccessKey }: MountRequest): NodeJS.ProcessEnv {
  return { ...process.env, AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_REGION: REGION };
}

export const PEERS: readonly Target[] = [s3fs, rclone, goofys('goofys'), goofys('geesefs'), mountS3, juicefs];
