/**
 * The guardian (native/guardian.c): a small process that holds /dev/fuse open, so that a mount outlives the worker that serves it. This is how
 * it is started, and the worker's side of what they say to each other.
 */
import { existsSync, readSync, writeSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { VERSION } from './config.ts';
import { MountError, systemCode } from './errors.ts';

/** The same path from src/ and from dist/. `TSFS_GUARDIAN` names another build (sanitizers). */
const PROGRAM = process.env.TSFS_GUARDIAN ?? fileURLToPath(new URL('../../build/tsfs-guardian', import.meta.url));

const SOCKET_FD = 4;
const DEVICE_FD = 5;
const VIEW_FD = 6;
const CONTROL_FD = 7;
const NOTIFIER_FD = 8;
const VIEW_NOTIFIER_FD = 9;
const KEPT_FD = 10;
const VIEW_KEPT_FD = 11;
/** Changes only when a worker and a guardian that differ in it cannot understand each other. */
export const PROTOCOL = 1;
const BEAT_EVERY_MS = 1000;
const MAX_GREETING_BYTES = 512;

export interface GuardedCommand {
  /** `attached`: the workers die with the guardian, as in the foreground of a terminal or a container. */
  readonly mode: 'attached' | 'detached';
  /** The worker has no guardian: its mount is one that no other could go on with. */
  readonly isAlone: boolean;
  readonly mountpoint: string;
  /** A second mount point. */
  readonly viewMountpoint?: string | undefined;
  /** The guardian makes it: nothing may be there. */
  readonly controlSocket: string;
  /** Runs `serveWorker`. */
  readonly module: URL;
  readonly arguments: readonly string[];
}

/**
 * What a worker keeps in memory is some tens of megabytes, and what it throws away is most of the rest: with a small young generation V8
 * collects that before it takes hundreds. The old one may grow by half before it is looked through: by default V8 does so every few
 * megabytes, buffers outside of the heap included, which takes more time than reading from the network.
 */
const HEAP_OPTIONS = ['--max-semi-space-size=4', '--max-old-space-size=512', '--heap-growing-percent=50'];

/** Program and argv (with argv[0]) of the guardian, or of the worker alone. Throws a MountError when the guardian was not built. */
export function guardianCommand(command: GuardedCommand): { program: string; argv: string[] } {
  const worker = [process.execPath, ...HEAP_OPTIONS, fileURLToPath(command.module), ...command.arguments];
  if (command.isAlone) return { program: process.execPath, argv: worker };
  if (!existsSync(PROGRAM)) {
    const remedy = 'build it with scripts/build-native.sh, or mount with the option driver=portable';
    throw new MountError(`${PROGRAM} is missing: ${remedy}.`);
  }
  const { mode, mountpoint, viewMountpoint = '', controlSocket } = command;
  return { program: PROGRAM, argv: ['tsfs', mode, mountpoint, viewMountpoint, controlSocket, ...worker] };
}

type DeviceState = 'none' | 'unused' | 'mounted' | 'ended';

/** Guardians of all versions with the same `protocol` say this; what is added must have a default. */
interface Greeting {
  readonly protocol: number;
  readonly restarts: number;
  readonly crashes: number;
  readonly failures: number;
  readonly mount: DeviceState;
  readonly view: DeviceState;
  readonly control: boolean;
  readonly notifiers: boolean;
  readonly kept?: boolean;
  readonly reason: string;
}

/**
 * One /dev/fuse that the guardian holds. `none`: there is none, or it could not be opened. `unused`: nothing was mounted with it yet. `mounted`:
 * a predecessor served it. `ended`: it has been unmounted.
 */
export type Connection =
  | { readonly state: 'none'; readonly fd?: undefined; readonly notifyFd?: undefined; readonly keptFd?: undefined }
  | {
      readonly state: 'unused' | 'mounted' | 'ended';
      readonly fd: number;
      /** For `SessionOptions.notifyFd`. */
      readonly notifyFd: number | undefined;
      /** For `SessionOptions.keptFd`. undefined: the guardian is of an earlier version. */
      readonly keptFd: number | undefined;
    };

/** What a worker knows of its guardian. */
export interface Guardian {
  /** undefined: there is none. */
  readonly pid: number | undefined;
  /** What it speaks, see `PROTOCOL`. */
  readonly protocol: number;
  /** Workers of this mount before this one. */
  readonly restarts: number;
  /** Why the last one was replaced; '' for the first worker. */
  readonly reason: string;
  /** How many of these, in a row, broke down by themselves soon after they had begun to serve. */
  readonly crashes: number;
  /** How many of these, in a row, ended before they served. */
  readonly failures: number;
  readonly mount: Connection;
  /** Of the second mount point. */
  readonly view: Connection;
  /** A listening socket. */
  readonly controlFd: number | undefined;
  ready(): void;
  /** To be called right before the process exits. `swap`: another worker is to go on; `end`: the mount has ended. */
  leave(how: 'swap' | 'end'): void;
}

export const NO_GUARDIAN: Guardian = {
  pid: undefined,
  protocol: PROTOCOL,
  restarts: 0,
  reason: '',
  crashes: 0,
  failures: 0,
  mount: { state: 'none' },
  view: { state: 'none' },
  controlFd: undefined,
  ready: () => undefined,
  leave: () => undefined,
};

/**
 * To be called once, at the start of a worker; from then on the guardian hears that its event loop turns.
 * @throws MountError when the guardian is of a version that this one cannot work with.
 */
export function meetGuardian(): Guardian {
  const { mount, view, control, notifiers, kept = false, ...history } = readGreeting();
  if (history.protocol !== PROTOCOL) throw new MountError(foreignGuardian(history.protocol));
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
  return {
    ...history,
    pid: process.ppid,
    mount: connection(mount, DEVICE_FD, notifiers ? NOTIFIER_FD : undefined, kept ? KEPT_FD : undefined),
    view: connection(view, VIEW_FD, notifiers ? VIEW_NOTIFIER_FD : undefined, kept ? VIEW_KEPT_FD : undefined),
    controlFd: control ? CONTROL_FD : undefined,
    ready: () => tell('ready'),
    leave: tell,
  };
}

/** Why a worker of this version cannot go on with the mount of such a guardian, and what to do. */
export function foreignGuardian(protocol: number): string {
  const both = `its guardian speaks protocol ${protocol}, and tsfs ${VERSION} protocol ${PROTOCOL}`;
  return `This mount was made by another version of tsfs (${both}): unmount it, and mount it again.`;
}

function connection(
  state: DeviceState,
  fd: number,
  notifyFd: number | undefined,
  keptFd: number | undefined,
): Connection {
  return state === 'none' ? { state } : { state, fd, notifyFd, keptFd };
}

/** The guardian wrote it before it started this process: nothing is waited for. */
function readGreeting(): Greeting {
  const bytes = Buffer.alloc(MAX_GREETING_BYTES);
  return JSON.parse(bytes.toString('utf8', 0, readSync(SOCKET_FD, bytes))) as Greeting;
}
