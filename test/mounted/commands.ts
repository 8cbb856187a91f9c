/** Runs tsfs commands on what a mount of a test has left, in a process of their own. */
import { execFile } from 'node:child_process';
import { dirname, join } from 'node:path';
import { testServer } from '../support/buckets.ts';
import type { TestServer } from './harness.ts';

const CLI = join(import.meta.dirname, '../../src/cli/main.ts');
const LIMIT_MS = 60_000;

export interface CommandRun {
  readonly status: number;
  /** What was asked for. */
  readonly output: string;
  /** What was said besides. */
  readonly notes: string;
}

export async function stateDirectory(server: TestServer): Promise<string> {
  return dirname(await server.jobFile());
}

/** `tsfs COMMAND BUCKET -o state_dir=… ARGUMENT…` */
export async function tsfs(server: TestServer, command: string, ...rest: readonly string[]): Promise<CommandRun> {
  const base = dirname(await stateDirectory(server));
  return run(process.execPath, [CLI, command, server.bucket.name, '-o', `state_dir=${base}`, ...rest]);
}

/** Mounts once more, where neither the mount nor its control socket is to be seen: in a mount namespace of its own. */
export async function mountElsewhere(server: TestServer): Promise<CommandRun> {
  const base = dirname(await stateDirectory(server));
  const options = [
    `url=${server.proxy.endpoint}`,
    'use_path_request_style',
    `use_cache=${server.cacheDirectory}`,
    `state_dir=${base}`,
  ];
  const command = [process.execPath, CLI, 'mount', server.bucket.name, server.dir, '-f', '-o', options.join(',')];
  const hide = 'mount -t tmpfs -o mode=0700 none /run/tsfs && umount -i -l "$0" && exec "$@"';
  return run('unshare', ['--mount', 'sh', '-c', hide, server.dir, ...command]);
}

function run(program: string, args: readonly string[]): Promise<CommandRun> {
  const { accessKeyId, secretAccessKey } = testServer();
  const env = { ...process.env, AWSACCESSKEYID: accessKeyId, AWSSECRETACCESSKEY: secretAccessKey };
  return new Promise((resolve) => {
    execFile(program, args, { env, timeout: LIMIT_MS, killSignal: 'SIGKILL' }, (error, output, notes) => {
      const status = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ status, output, notes });
    });
  });
}
