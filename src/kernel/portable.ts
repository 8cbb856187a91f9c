/**
 * The portable driver: serves `Operations` through libfuse 2 and the npm package `fuse-native`, for hosts where the native addon cannot be
 * built. It does the same work, slower, and lacks what the path interface of libfuse 2 has no words for: invalidation (so that the kernel
 * may believe things for a short time only), passthrough, the caller's user and process, interrupts, fallocate, SEEK_DATA, copies by the
 * store, rename flags, nanoseconds and a hand-over to another process. Its threads are as many as requests wait at once.
 */
import { readdir, readlink } from 'node:fs/promises';
import type { Logger } from '../base/log.ts';
import type { NativeCounters } from './binding.ts';
import type { Caller, HotNodes, Operations } from './contract.ts';
import { checkDevice, DEVICE, FILE_SYSTEM_TYPE, type MountOptions, prepareMountPoint } from './mount.ts';
import { type Call, mountLibfuse, type Reply } from './portable-binding.ts';
import { PortableCalls } from './portable-calls.ts';
import { PathNames } from './portable-names.ts';
import { ERRNO } from './protocol.ts';
import type { KernelSession, SessionEnd, SessionStatus } from './session.ts';

/** How soon the end of a mount is noticed. */
const WATCH_EVERY_MS = 250;
const MAX_ERRNO = 511;

export interface PortableMountOptions extends Omit<MountOptions, 'deviceFd'> {
  readonly operations: Operations;
  readonly log: Logger;
  /** Owns what is made here: libfuse's binding does not tell who makes it. */
  readonly owner: { readonly uid: number; readonly gid: number };
  /** How long the kernel believes names and attributes. */
  readonly kernelTtlMs: number;
}

/** @throws MountError, also when the package is not installed. */
export async function mountPortable(options: PortableMountOptions): Promise<KernelSession> {
  await prepareMountPoint(options.mountPoint);
  checkDevice();
  const before = await fuseDescriptors();
  const session = new PortableSession(options);
  const device = (await fuseDescriptors()).find((fd) => !before.includes(fd));
  session.watch(device);
  return session;
}

/** `-o` of libfuse. */
function libfuseOptions(options: PortableMountOptions): string[] {
  const ttlSeconds = options.kernelTtlMs / 1000;
  return [
    // libfuse splits at commas that no backslash precedes.
    `fsname=${options.source.replace(/[\\,]/g, '\\$&')}`,
    `subtype=${FILE_SYSTEM_TYPE.slice('fuse.'.length)}`,
    'nosuid',
    'nodev',
    'big_writes',
    'atomic_o_trunc',
    'use_ino',
    `entry_timeout=${ttlSeconds}`,
    `attr_timeout=${ttlSeconds}`,
    'negative_timeout=0',
    options.readOnly ? 'ro' : 'rw',
    ...(options.noExec ? ['noexec'] : []),
    ...(options.noAtime ? ['noatime'] : []),
    ...(options.allowOther ? ['allow_other'] : []),
    ...(options.defaultPermissions ? ['default_permissions'] : []),
    // The helper of other users, `fusermount` of fuse3, does not know the word.
    ...(process.geteuid?.() === 0 ? ['nonempty'] : []),
  ];
}

const NO_HOT_NODES: HotNodes = { publish: () => false, withdraw: () => 0, limitXattrs: () => undefined };

const NO_COUNTERS: NativeCounters = {
  requests: 0,
  replies: 0,
  repliesFailed: 0,
  malformed: 0,
  unanswered: 0,
  heldBytes: 0,
  notificationsSent: 0,
  notificationsFailed: 0,
  hotNodes: 0,
  hotFiles: 0,
  hotOpens: 0,
  hotReleases: 0,
  hotAttributes: 0,
  hotReads: 0,
  hotXattrs: 0,
};

/** A caller of whom nothing is known. */
function anonymousCaller({ uid, gid }: PortableMountOptions['owner']): Caller {
  return {
    uid,
    gid,
    pid: 0,
    isResent: false,
    // Never aborted: libfuse keeps interrupts to itself.
    get signal() {
      return new AbortController().signal;
    },
  };
}

/** Descriptors of this process that are open on /dev/fuse. */
async function fuseDescriptors(): Promise<number[]> {
  const names = await readdir('/proc/self/fd');
  // Some are closed meanwhile, that of the directory itself always.
  const targets = await Promise.all(names.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => '')));
  return names.filter((_name, index) => targets[index] === DEVICE).map(Number);
}

class PortableSession implements KernelSession {
  readonly takesBackingFiles = false;
  readonly notifier: PathNames;
  readonly hotNodes = NO_HOT_NODES;
  readonly ended: Promise<SessionEnd>;
  readonly #operations: Operations;
  readonly #log: Logger;
  readonly #resolveEnded: (end: SessionEnd) => void;
  /** Lets the process end by itself. */
  readonly #detach: () => void;
  #inFlight = 0;
  #requests = 0;
  #isEnded = false;

  constructor(options: PortableMountOptions) {
    const { mountPoint, operations, log, owner } = options;
    this.#operations = operations;
    this.#log = log;
    const { promise, resolve } = Promise.withResolvers<SessionEnd>();
    this.ended = promise;
    this.#resolveEnded = resolve;
    const caller = anonymousCaller(owner);
    this.notifier = new PathNames(operations, caller);
    const calls = new PortableCalls(operations, this.notifier, caller);
    this.#detach = mountLibfuse(mountPoint, libfuseOptions(options), calls, (call) => void this.#serve(call));
  }

  /** libfuse closes the device when its loop has ended, for whatever reason, and says so to nobody. */
  watch(device: number | undefined): void {
    const check = async () => {
      if (this.#isEnded) return;
      const target = device === undefined ? '' : await readlink(`/proc/self/fd/${device}`).catch(() => '');
      if (target === DEVICE) setTimeout(check, WATCH_EVERY_MS);
      else this.#finish({ reason: 'unmounted' });
    };
    void check();
  }

  status(): SessionStatus {
    const replies = this.#requests - this.#inFlight;
    return {
      protocol: undefined,
      passthrough: { state: 'switched off', nodes: 0 },
      inFlight: this.#inFlight,
      notificationsDropped: 0,
      counters: { ...NO_COUNTERS, requests: this.#requests, replies, unanswered: this.#inFlight },
    };
  }

  /** Calls that still come are answered with ENOTCONN. */
  stop(): Promise<SessionEnd> {
    this.#finish({ reason: 'stopped' });
    return this.ended;
  }

  #finish(end: SessionEnd): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#detach();
    if (end.reason === 'unmounted') this.#operations.destroy();
    this.#resolveEnded(end);
  }

  async #serve(call: Call): Promise<void> {
    this.#requests += 1;
    this.#inFlight += 1;
    const reply = this.#isEnded ? call.failure(ERRNO.ENOTCONN) : await this.#run(call);
    this.#inFlight -= 1;
    call.answer(reply);
  }

  async #run(call: Call): Promise<Reply> {
    try {
      return await call.run();
    } catch (error) {
      const errno = this.#errnoOf(error);
      if (errno === ERRNO.EIO) this.#log.error({ err: error, operation: call.name }, 'operation failed');
      return call.failure(errno);
    }
  }

  #errnoOf(error: unknown): number {
    try {
      const errno = this.#operations.errnoOf(error);
      return Number.isInteger(errno) && errno > 0 && errno <= MAX_ERRNO ? errno : ERRNO.EIO;
    } catch (defect) {
      this.#log.error({ err: defect }, 'errnoOf failed');
      return ERRNO.EIO;
    }
  }
}
