/** `fusermount3`, the setuid helper that mounts for normal users and passes `/dev/fuse` back over a Unix socket. */
import { spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { receiveFd, socketPair } from './binding.ts';
import { errnoName } from './errors.ts';
import { MountError } from './mount-error.ts';

const PROGRAM = 'fusermount3';
/** The child's number of the socket (fuse's protocol: the environment variable _FUSE_COMMFD names it). */
const SOCKET_IN_CHILD = 3;
const TIMEOUT_MS = 20_000;
/** What the helper may say before the rest is cut off. */
const MAX_MESSAGE_CHARACTERS = 2_000;

interface Outcome {
  readonly status: number | null;
  readonly message: string;
}

/** @throws MountError when the helper is missing. */
function run(args: readonly string[], socket?: number): Promise<Outcome> {
  const { promise, resolve, reject } = Promise.withResolvers<Outcome>();
  const child = spawn(PROGRAM, args, {
    stdio: ['ignore', 'ignore', 'pipe', ...(socket === undefined ? [] : [socket])],
    env: { PATH: process.env.PATH, LC_ALL: 'C', _FUSE_COMMFD: String(SOCKET_IN_CHILD) },
    timeout: TIMEOUT_MS,
  });
  let message = '';
  child.stderr?.on('data', (text: Buffer) => {
    if (message.length < MAX_MESSAGE_CHARACTERS) message += text.toString();
  });
  child.on('error', (cause: NodeJS.ErrnoException) => {
    reject(
      cause.code === 'ENOENT'
        ? new MountError('no-fusermount', `${PROGRAM} was not found; install the package fuse3, or run as root`, {
            cause,
          })
        : new MountError('failed', `${PROGRAM} could not be started: ${cause.code}`, { cause }),
    );
  });
  child.on('close', (status) => resolve({ status, message: message.trim().replace(/\s*\n\s*/g, '; ') }));
  return promise;
}

function failureOf(message: string, path: string): MountError {
  if (/user_allow_other/.test(message)) {
    return new MountError('no-permission', 'allow_other needs the line "user_allow_other" in /etc/fuse.conf');
  }
  if (/device not found|modprobe/i.test(message)) {
    return new MountError('no-fuse', '/dev/fuse is missing; load the kernel module with "modprobe fuse"');
  }
  if (/\/dev\/fuse.*(Permission denied|Operation not permitted)/i.test(message)) {
    return new MountError('no-permission', 'no permission to open /dev/fuse; ask root to allow it, or run as root');
  }
  if (/Permission denied|Operation not permitted|no write access/i.test(message)) {
    return new MountError('no-permission', `${path} must be a directory that you may write to (${message})`);
  }
  return new MountError('failed', `${PROGRAM} failed on ${path}: ${message || 'it said nothing'}`);
}

/** @throws MountError */
export async function fusermountMount(mountPoint: string, options: string): Promise<number> {
  const pair = socketPair();
  if (typeof pair === 'number') throw new MountError('failed', `no socket for ${PROGRAM}: ${errnoName(pair)}`);
  const [ours, theirs] = pair;
  try {
    const { status, message } = await run(['-o', options, '--', mountPoint], theirs);
    if (status !== 0) throw failureOf(message, mountPoint);
    // It has ended, so what it sent lies in the socket.
    const fd = receiveFd(ours);
    if (fd < 0) throw new MountError('failed', `${PROGRAM} passed no descriptor: ${errnoName(-fd)}`);
    return fd;
  } finally {
    closeSync(ours);
    closeSync(theirs);
  }
}

/** @throws MountError */
export async function fusermountUnmount(path: string, lazy: boolean): Promise<void> {
  const { status, message } = await run(['-u', ...(lazy ? ['-z'] : []), '--', path]);
  if (status === 0) return;
  if (/busy/i.test(message)) {
    throw new MountError('busy', `${path} is in use: close the files in it, or unmount lazily`);
  }
  if (/not found in|not mounted/i.test(message)) throw new MountError('not-mounted', `${path} is not a mount point`);
  throw failureOf(message, path);
}
