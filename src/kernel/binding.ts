/**
 * The only file that loads the native addon. Mechanism without policy: what each function does is said here, what it is
 * used for in `session.ts`, `passthrough.ts` and `mount.ts`.
 */
import { createRequire } from 'node:module';
import { MountError } from './mount-error.ts';

declare const handleBrand: unique symbol;
type Handle = { readonly [handleBrand]: true };

export interface NativeCounters {
  /** Requests taken from the kernel. */
  readonly requests: number;
  readonly replies: number;
  /** Replies that the kernel refused, nearly always because the request had been given up meanwhile. */
  readonly repliesFailed: number;
  readonly malformed: number;
  /** Requests that wait for a reply, and room reserved by waiting readers. */
  readonly unanswered: number;
  /** WRITE payloads held outside JavaScript, and room reserved by waiting readers. */
  readonly heldBytes: number;
  readonly notificationsSent: number;
  readonly notificationsFailed: number;
  /** Published nodes, and how many of them with a file. */
  readonly hotNodes: number;
  readonly hotFiles: number;
  /** Requests of each kind that were answered without JavaScript. */
  readonly hotOpens: number;
  readonly hotReleases: number;
  readonly hotAttributes: number;
  readonly hotReads: number;
  readonly hotXattrs: number;
}

interface Addon {
  mount(source: string, target: string, type: string, flags: number, data: string): number;
  unmount(target: string, flags: number): Promise<number>;
  socketPair(): [number, number] | number;
  receiveFd(socket: number): number;
  cloneDevice(fuseFd: number, connectedFd: number): number;
  start(
    fd: number,
    readers: number,
    ioThreads: number,
    maxWriteBytes: number,
    maxRequests: number,
    maxPayloadBytes: number,
    onEvents: (buffer: 0 | 1, lengthBytes: number) => void,
    openHandle: number,
    notifyFd: number,
    keptFd: number,
  ): { handle: Handle; events: [ArrayBuffer, ArrayBuffer]; outbox: ArrayBuffer };
  stop(handle: Handle): void;
  keepNoMore(handle: Handle): void;
  reply(handle: Handle, sizeBytes: number, counted: boolean): number;
  replyFile(
    handle: Handle,
    token: number,
    uniqueLow: number,
    uniqueHigh: number,
    fd: number,
    offset: number,
    lengthBytes: number,
  ): boolean;
  replyMemory(
    handle: Handle,
    token: number,
    uniqueLow: number,
    uniqueHigh: number,
    pieces: readonly Uint8Array[],
  ): boolean;
  writeFile(handle: Handle, token: number, slot: number, fd: number, offset: number): boolean;
  payload(handle: Handle, slot: number): Buffer | undefined;
  releasePayload(handle: Handle, slot: number): void;
  publish(handle: Handle, node: number, ttlMs: number, fd: number): boolean;
  withdraw(handle: Handle, node: number): number;
  limitXattrs(handle: Handle, prefixes: string): void;
  notify(handle: Handle, sizeBytes: number): boolean;
  counters(handle: Handle): NativeCounters;
  backingOpen(fuseFd: number, fd: number): number;
  backingClose(fuseFd: number, backingId: number): number;
}

/** `src/kernel` and `dist/kernel` are equally far from `build`. `TSFS_NATIVE` names another build (sanitizers). */
const ADDON = process.env.TSFS_NATIVE ?? '../../build/tsfs_native.node';

let addon: Addon | undefined;

/** @throws MountError that says what to do when the addon cannot be loaded. */
function load(): Addon {
  try {
    addon ??= createRequire(import.meta.url)(ADDON) as Addon;
    return addon;
  } catch (cause) {
    const remedy = 'build it with scripts/build-native.sh, or mount with the option driver=portable';
    throw new MountError('failed', `the native addon could not be loaded; ${remedy}`, { cause });
  }
}

/** Whether the addon is there. */
export function hasAddon(): boolean {
  try {
    load();
    return true;
  } catch {
    return false;
  }
}

/** What happened on native threads, as records in an event buffer. */
export const EventKind = {
  /**
   * Body: a request, without the payload of a WRITE, which is held in the slot `token` (0: there is none). `result` is 1 when an earlier
   * process had taken and kept it.
   */
  request: 0,
  /** The job `token` is done; `result` is 0 or an errno. */
  jobDone: 1,
  /** Nothing more comes from the kernel; `result` is 0 after an unmount, else the errno of reading. */
  ended: 2,
  /** All threads have ended. Always the last event. */
  stopped: 3,
} as const;

/** Bytes before the body of an event: size, kind, token, result; 32 bits each. Bodies are padded to 8 bytes. */
export const EVENT_HEADER_BYTES = 16;

export interface NativeSessionOptions {
  /** An open `/dev/fuse` with a mount behind it. Stays the caller's, and open until the event `stopped`. */
  readonly fd: number;
  readonly readers: number;
  readonly ioThreads: number;
  readonly maxWriteBytes: number;
  /** While so many requests are unanswered no more are taken from the kernel. */
  readonly maxRequests: number;
  readonly maxPayloadBytes: number;
  /** The handle of opens that are answered for published nodes. JavaScript gives it to opens that count the same. */
  readonly openHandle: number;
  /** Where notifications are written, if not to `fd`: a socket that takes one in each packet. */
  readonly notifyFd?: number | undefined;
  /**
   * A memfd, empty or as an earlier process left it: requests are kept in it until they are answered, and those that it left come first. For
   * kernels that do not send again what a process that died had taken.
   */
  readonly keptFd?: number | undefined;
  /** Reads the records in the first `lengthBytes` of `events[buffer]`, which are overwritten once it has returned. */
  readonly onEvents: (buffer: 0 | 1, lengthBytes: number) => void;
}

export class NativeSession {
  readonly events: readonly [ArrayBuffer, ArrayBuffer];
  /** Replies and notifications are encoded here, then sent with `reply` or `notify`. */
  readonly outbox: ArrayBuffer;
  readonly #addon: Addon;
  readonly #handle: Handle;

  constructor(options: NativeSessionOptions) {
    this.#addon = load();
    const { fd, readers, ioThreads, maxWriteBytes, maxRequests, maxPayloadBytes, onEvents, openHandle } = options;
    const { notifyFd = fd, keptFd = -1 } = options;
    const started = this.#addon.start(
      fd,
      readers,
      ioThreads,
      maxWriteBytes,
      maxRequests,
      maxPayloadBytes,
      onEvents,
      openHandle,
      notifyFd,
      keptFd,
    );
    this.#handle = started.handle;
    this.events = started.events;
    this.outbox = started.outbox;
  }

  /** Takes no more requests; jobs under way are finished. The event `stopped` follows. */
  stop(): void {
    this.#addon.stop(this.#handle);
  }

  /** From now on requests are not kept: the kernel sends them again. */
  keepNoMore(): void {
    this.#addon.keepNoMore(this.#handle);
  }

  /**
   * Sends the start of the outbox. `counted`: it answers one of the requests that `maxRequests` counts, which is all but
   * INTERRUPT. Returns 0 or an errno: ENOENT when the kernel has given the request up, ENODEV after an unmount.
   */
  reply(sizeBytes: number, counted: boolean): number {
    return this.#addon.reply(this.#handle, sizeBytes, counted);
  }

  /**
   * Answers a READ with a piece of a file on a native thread. A job: when its event brings an errno, the file could not
   * be read and the request is still unanswered. Returns false when nothing was begun.
   */
  replyFile(
    token: number,
    uniqueLow: number,
    uniqueHigh: number,
    fd: number,
    offset: number,
    lengthBytes: number,
  ): boolean {
    return this.#addon.replyFile(this.#handle, token, uniqueLow, uniqueHigh, fd, offset, lengthBytes);
  }

  /** Answers a READ with bytes on a native thread. A job, until whose event they must stay what they are. Returns false when nothing was begun. */
  replyMemory(token: number, uniqueLow: number, uniqueHigh: number, pieces: readonly Uint8Array[]): boolean {
    return this.#addon.replyMemory(this.#handle, token, uniqueLow, uniqueHigh, pieces);
  }

  /** Writes a payload to a file on a native thread. A job. Returns false when nothing was begun. */
  writeFile(token: number, slot: number, fd: number, offset: number): boolean {
    return this.#addon.writeFile(this.#handle, token, slot, fd, offset);
  }

  /** A copy of a payload; undefined once it was released. */
  payload(slot: number): Buffer | undefined {
    return this.#addon.payload(this.#handle, slot);
  }

  releasePayload(slot: number): void {
    this.#addon.releasePayload(this.#handle, slot);
  }

  /**
   * From now on native threads answer OPEN (for reading), RELEASE and GETATTR of the node, and READ from the file, if they have it in
   * memory; after `ttlMs` only RELEASE. Takes `fuse_attr` from the outbox, behind the room for a header. The fd (negative: none, or the
   * one published before) is duplicated. Publishing again replaces. Returns false when the table is full.
   */
  publish(node: number, ttlMs: number, fd: number): boolean {
    return this.#addon.publish(this.#handle, node, ttlMs, fd);
  }

  /** Returns the opens that were answered natively and are not released; their RELEASE comes to JavaScript. */
  withdraw(node: number): number {
    return this.#addon.withdraw(this.#handle, node);
  }

  /** Of extended attributes JavaScript is asked only for those whose names begin with one of these; of all when there is none. */
  limitXattrs(prefixes: readonly string[]): void {
    this.#addon.limitXattrs(this.#handle, prefixes.join(','));
  }

  /** Queues the start of the outbox for the notification thread. Returns false when its queue is full. */
  notify(sizeBytes: number): boolean {
    return this.#addon.notify(this.#handle, sizeBytes);
  }

  counters(): NativeCounters {
    return this.#addon.counters(this.#handle);
  }
}

/** mount(2). Returns 0 or an errno. */
export function mountSyscall(source: string, target: string, type: string, flags: number, data: string): number {
  return load().mount(source, target, type, flags, data);
}

/** umount2(2) on another thread. Resolves to 0 or an errno. */
export function unmountSyscall(target: string, flags: number): Promise<number> {
  return load().unmount(target, flags);
}

/** A connected pair of Unix sockets, closed on exec. Returns an errno when there is none to be had. */
export function socketPair(): [number, number] | number {
  return load().socketPair();
}

/** The descriptor that was sent to this socket, or a negative errno. Does not wait. */
export function receiveFd(socket: number): number {
  return load().receiveFd(socket);
}

/** FUSE_DEV_IOC_CLONE: makes an unused device another one of the connection that `connectedFd` has. Returns 0 or an errno. */
export function cloneDevice(fuseFd: number, connectedFd: number): number {
  return load().cloneDevice(fuseFd, connectedFd);
}

/** FUSE_DEV_IOC_BACKING_OPEN. Returns a backing id, or a negative errno. */
export function backingOpen(fuseFd: number, fd: number): number {
  return load().backingOpen(fuseFd, fd);
}

/** FUSE_DEV_IOC_BACKING_CLOSE. Returns 0 or an errno. */
export function backingClose(fuseFd: number, backingId: number): number {
  return load().backingClose(fuseFd, backingId);
}
