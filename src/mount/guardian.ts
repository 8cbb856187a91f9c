/**
 * The guardian (native/guardian.c): a small process that holds /dev/fuse open, so that a mount outlives the worker that serves it. This is how
 * it is started, and the worker's side of what they say to each other.
 */
import { existsSync, readSync, writeSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { MountError, systemCode } from './errors.ts';

/** The same path from src/ and from dist/. */
const PROGRAM = fileURLToPath(new URL('../../build/tsfs-guardian', import.meta.url));

const SOCKET_FD = 4;
const DEVICE_FD = 5;
const BEAT_EVERY_MS = 1000;
const MAX_GREETING_BYTES = 512;

export interface GuardedCommand {
  /** `attached`: the workers die with the guardian, as in the foreground of a terminal or a container. */
  readonly mode: 'attached' | 'detached';
  /** The worker has no guardian: its mount is one that no other could go on with. */
  readonly isAlone: boolean;
  readonly mountpoint: string;
  /** Runs `serveWorker`. */
  readonly module: URL;
  readonly arguments: readonly string[];
}

/** Program and argv (with argv[0]) of the guardian, or of the worker alone. Throws a MountError when the guardian was not built. */
export function guardianCommand(command: GuardedCommand): { program: string; argv: string[] } {
  const worker = [process.execPath, fileURLToPath(command.module), ...command.arguments];
  if (command.isAlone) return { program: process.execPath, argv: worker };
  if (!existsSync(PROGRAM)) {
    const remedy = 'build it with scripts/build-native.sh, or mount with the option driver=portable';
    throw new MountError(`${PROGRAM} is missing: ${remedy}.`);
  }
  return { program: PROGRAM, argv: ['tsfs', command.mode, command.mountpoint, ...worker] };
}

interface Greeting {
  readonly restarts: number;
  readonly device: boolean;
  readonly continues: boolean;
  readonly reason: string;
}

/** What a worker knows of its guardian. */
export interface Guardian {
  /** undefined: there is none. */
  readonly pid: number | undefined;
  /** Workers of this mount before this one. */
  readonly restarts: number;
  /** Why the last one was replaced; '' for the first worker. */
  readonly reason: string;
  /** An open /dev/fuse: that of the mount to go on with, or an unused one. undefined: it could not be opened. */
  readonly deviceFd: number | undefined;
  /** The mount is there: a predecessor served it. */
  readonly continues: boolean;
  ready(): void;
  /** To be called right before the process exits. `swap`: another worker is to go on; `end`: the mount has ended. */
  leave(how: 'swap' | 'end'): void;
}

export const NO_GUARDIAN: Guardian = {
  pid: undefined,
  restarts: 0,
  reason: '',
  deviceFd: undefined,
  continues: false,
  ready: () => undefined,
  leave: () => undefined,
};

/** To be called once, at the start of a worker; from then on the guardian hears that its event loop turns. */
export function meetGuardian(): Guardian {
  const { restarts, reason, device, continues } = readGreeting();
  let isAlone = false;
  const tell = (word: string) => {
    if (isAlone) return;
    try {
      writeSync(SOCKET_FD, `${word}\n`);
    } catch (error) {
      // The guardian was killed: this worker serves on, but nobody would replace it. (EAGAIN: it is stopped, and has heard enough.)
      isAlone = systemCode(error) === 'EPIPE';
    }
  };
  setInterval(() => tell('beat'), BEAT_EVERY_MS).unref();
  const deviceFd = device ? DEVICE_FD : undefined;
  return { pid: process.ppid, restarts, reason, deviceFd, continues, ready: () => tell('ready'), leave: tell };
}

/** The guardian wrote it before it started this process: nothing is waited for. */
function readGreeting(): Greeting {
  const bytes = Buffer.alloc(MAX_GREETING_BYTES);
  return JSON.parse(bytes.toString('utf8', 0, readSync(SOCKET_FD, bytes))) as Greeting;
}
