/**
 * The only file that loads the npm package `fuse-native`: libfuse 2, whose threads call JavaScript and wait for a signal. Of the package
 * only its native half is used: its JavaScript half drops the descriptor of fstat, unmounts through a shell, and answers a too small
 * buffer for extended attributes with more bytes than the buffer has.
 */
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import type { Timespec } from '../base/clock.ts';
import { MountError } from './mount-error.ts';
import { EMPTY_STAT, EMPTY_STATFS, timespecFromStructMs } from './portable-values.ts';

/** What libfuse calls. Paths begin with `/`. Each fails by rejecting. */
export interface LibfuseCalls {
  getattr(path: string): Promise<Uint32Array>;
  fgetattr(path: string, handle: number): Promise<Uint32Array>;
  statfs(path: string): Promise<Uint32Array>;
  access(path: string, mask: number): Promise<void>;
  readlink(path: string): Promise<string>;
  readdir(path: string): Promise<Listing>;
  fsyncdir(path: string): Promise<void>;
  /** Resolves to the handle, above 0 and below 2^31. */
  open(path: string, flags: number): Promise<number>;
  create(path: string, mode: number): Promise<number>;
  /** Fills the buffer, which is libfuse's; resolves to the number of bytes. */
  read(handle: number, buffer: Buffer, offset: number): Promise<number>;
  write(handle: number, bytes: Buffer, offset: number): Promise<number>;
  flush(handle: number): Promise<void>;
  fsync(handle: number): Promise<void>;
  release(handle: number): Promise<void>;
  truncate(path: string, sizeBytes: number): Promise<void>;
  ftruncate(handle: number, sizeBytes: number): Promise<void>;
  chmod(path: string, mode: number): Promise<void>;
  /** `NO_ID`: unchanged. */
  chown(path: string, uid: number, gid: number): Promise<void>;
  utimens(path: string, atime: Timespec, mtime: Timespec): Promise<void>;
  mknod(path: string, mode: number): Promise<void>;
  mkdir(path: string, mode: number): Promise<void>;
  symlink(target: string, path: string): Promise<void>;
  unlink(path: string): Promise<void>;
  rmdir(path: string): Promise<void>;
  rename(path: string, newPath: string): Promise<void>;
  /** Puts the value into `room` if that has a length; resolves to the value's. */
  getxattr(path: string, name: string, room: Buffer): Promise<number>;
  listxattr(path: string, room: Buffer): Promise<number>;
  setxattr(path: string, name: string, value: Buffer, flags: number): Promise<void>;
  removexattr(path: string, name: string): Promise<void>;
}

export interface Listing {
  readonly names: readonly string[];
  /** One for each name, of which only type and inode number count. */
  readonly stats: readonly Uint32Array[];
}

export type CallName = keyof LibfuseCalls;

/** A call's result (an errno when negative), and what is filled into libfuse's structures; their number and types must be right. */
export type Reply = readonly [result: number, ...values: unknown[]];

/** One call of a libfuse thread, which waits until it is answered. */
export interface Call {
  readonly name: CallName;
  run(): Promise<Reply>;
  /** What is sent when it failed. `errno` is positive. */
  failure(errno: number): Reply;
  /** To be called exactly once. */
  answer(reply: Reply): void;
}

interface Shape {
  run(calls: LibfuseCalls, args: readonly unknown[], frame: Buffer): Promise<Reply>;
  failureValues(args: readonly unknown[]): readonly unknown[];
}

function shape<Args extends readonly unknown[], T>(
  run: (calls: LibfuseCalls, args: Args, frame: Buffer) => Promise<T>,
  reply: (value: T, args: Args) => Reply,
  failureValues: (args: Args) => readonly unknown[],
): Shape {
  return {
    run: async (calls, args, frame) => reply(await run(calls, args as unknown as Args, frame), args as unknown as Args),
    failureValues: (args) => failureValues(args as unknown as Args),
  };
}

/** A call that answers with success alone. */
function plain<Args extends readonly unknown[]>(run: (calls: LibfuseCalls, args: Args) => Promise<void>): Shape {
  return shape<Args, void>(
    run,
    () => [0],
    () => [],
  );
}

/** The binding takes a buffer of libfuse's away from JavaScript with the answer. */
const taken = (buffer: Buffer): ArrayBuffer => buffer.buffer as ArrayBuffer;
const joined = (low: number, high: number): number => low + high * 0x1_0000_0000;

type Path = [path: string];
type PathAndNumber = [path: string, value: number];
type Transfer = [path: string, handle: number, buffer: Buffer, lengthBytes: number, low: number, high: number];

const stat = <Args extends readonly unknown[]>(run: (calls: LibfuseCalls, args: Args) => Promise<Uint32Array>) =>
  shape<Args, Uint32Array>(
    run,
    (value) => [0, value],
    () => [EMPTY_STAT],
  );
const opening = (run: (calls: LibfuseCalls, args: PathAndNumber) => Promise<number>) =>
  shape<PathAndNumber, number>(
    run,
    (handle) => [0, handle],
    () => [0],
  );
const transfer = (run: (calls: LibfuseCalls, args: Transfer) => Promise<number>) =>
  shape<Transfer, number>(
    run,
    (count, [, , buffer]) => [count, count, taken(buffer)],
    ([, , buffer]) => [0, taken(buffer)],
  );

const SHAPES: { readonly [Name in CallName]: Shape } = {
  getattr: stat((calls, [path]: Path) => calls.getattr(path)),
  fgetattr: stat((calls, [path, handle]: PathAndNumber) => calls.fgetattr(path, handle)),
  statfs: shape<Path, Uint32Array>(
    (calls, [path]) => calls.statfs(path),
    (value) => [0, value],
    () => [EMPTY_STATFS],
  ),
  access: plain((calls, [path, mask]: PathAndNumber) => calls.access(path, mask)),
  readlink: shape<Path, string>(
    (calls, [path]) => calls.readlink(path),
    (target) => [0, target],
    () => [''],
  ),
  readdir: shape<Path, Listing>(
    (calls, [path]) => calls.readdir(path),
    ({ names, stats }) => [0, names, stats],
    () => [[], []],
  ),
  fsyncdir: plain((calls, [path]: Path) => calls.fsyncdir(path)),
  open: opening((calls, [path, flags]) => calls.open(path, flags)),
  create: opening((calls, [path, mode]) => calls.create(path, mode)),
  read: transfer((calls, [, handle, buffer, , low, high]) => calls.read(handle, buffer, joined(low, high))),
  write: transfer((calls, [, handle, buffer, , low, high]) => calls.write(handle, buffer, joined(low, high))),
  flush: plain((calls, [, handle]: PathAndNumber) => calls.flush(handle)),
  fsync: plain((calls, [, , handle]: [path: string, dataOnly: number, handle: number]) => calls.fsync(handle)),
  release: plain((calls, [, handle]: PathAndNumber) => calls.release(handle)),
  truncate: plain((calls, [path, low, high]: [string, number, number]) => calls.truncate(path, joined(low, high))),
  ftruncate: plain((calls, [, handle, low, high]: [string, number, number, number]) =>
    calls.ftruncate(handle, joined(low, high)),
  ),
  chmod: plain((calls, [path, mode]: PathAndNumber) => calls.chmod(path, mode)),
  chown: plain((calls, [path, uid, gid]: [string, number, number]) => calls.chown(path, uid, gid)),
  utimens: shape<Path, void>(
    (calls, [path], frame) => calls.utimens(path, ...timesIn(frame)),
    () => [0],
    () => [],
  ),
  mknod: plain((calls, [path, mode]: PathAndNumber) => calls.mknod(path, mode)),
  mkdir: plain((calls, [path, mode]: PathAndNumber) => calls.mkdir(path, mode)),
  symlink: plain((calls, [target, path]: [string, string]) => calls.symlink(target, path)),
  unlink: plain((calls, [path]: Path) => calls.unlink(path)),
  rmdir: plain((calls, [path]: Path) => calls.rmdir(path)),
  rename: plain((calls, [path, newPath]: [string, string]) => calls.rename(path, newPath)),
  getxattr: shape<[string, string, Buffer], number>(
    (calls, [path, name, room]) => calls.getxattr(path, name, room),
    (lengthBytes, [, , room]) => [lengthBytes, taken(room)],
    ([, , room]) => [taken(room)],
  ),
  listxattr: shape<[string, Buffer], number>(
    (calls, [path, room]) => calls.listxattr(path, room),
    (lengthBytes, [, room]) => [lengthBytes, taken(room)],
    ([, room]) => [taken(room)],
  ),
  setxattr: shape<[string, string, Buffer, number, number], void>(
    (calls, [path, name, value, , flags]) => calls.setxattr(path, name, value, flags),
    (_nothing, [, , value]) => [0, taken(value)],
    ([, , value]) => [taken(value)],
  ),
  removexattr: plain((calls, [path, name]: [string, string]) => calls.removexattr(path, name)),
};

/**
 * The binding hands over the access time twice, and the modification time not at all (fuse-native.c, 2.2.6). Both are in the structure that
 * it keeps for the calling thread: signed milliseconds at fixed places of the 64-bit layout.
 */
const ATIME_AT = 104;
const MTIME_AT = 112;
/** Of the whole structure, in that layout. */
const FRAME_BYTES = 360;

function timesIn(frame: Buffer): [atime: Timespec, mtime: Timespec] {
  if (frame.length !== FRAME_BYTES)
    throw new Error(`times are unknown: ${frame.length} bytes where ${FRAME_BYTES} were known`);
  return [timespecFromStructMs(frame.readBigInt64LE(ATIME_AT)), timespecFromStructMs(frame.readBigInt64LE(MTIME_AT))];
}

type Handler = (frame: Buffer, op: number, ...args: unknown[]) => void;

interface Addon {
  readonly sizeof_fuse_thread_t: number;
  fuse_native_mount(
    mountPoint: string,
    options: string,
    thread: Buffer,
    self: object,
    allocate: (sizeBytes: number) => Buffer,
    handlers: readonly Handler[],
    implemented: Uint32Array,
  ): void;
  fuse_native_unmount(mountPoint: string, thread: Buffer): void;
}

/** Operations of the binding, handled or not: numbers from 0. */
const OPERATION_COUNT = 35;
/** Of the C strings that path and options are copied to. */
const MAX_STRING_BYTES = 1023;

/** Written to by native threads at any time, and never freed by them: one for each mount of this process. */
const threads: Buffer[] = [];

/**
 * Mounts; from then on `onCall` is called for each call, and must not throw. Returns what lets the process end by itself.
 * @throws MountError when the package is missing, or libfuse cannot mount; it says why on the standard error output.
 */
export function mountLibfuse(
  mountPoint: string,
  options: readonly string[],
  calls: LibfuseCalls,
  onCall: (call: Call) => void,
): () => void {
  const addon = load();
  const optionText = `-o${options.join(',')}`;
  if (Math.max(Buffer.byteLength(mountPoint), Buffer.byteLength(optionText)) > MAX_STRING_BYTES) {
    throw new MountError('failed', `${mountPoint} or the name of the bucket is too long for libfuse 2`);
  }
  const numbers = addon as unknown as Record<string, number>;
  const signals = addon as unknown as Record<string, (frame: Buffer, ...reply: Reply) => void>;
  const handlers: Handler[] = new Array(OPERATION_COUNT).fill(() => undefined);
  const implemented = new Uint32Array(OPERATION_COUNT);
  for (const [name, { run, failureValues }] of Object.entries(SHAPES) as [CallName, Shape][]) {
    const op = numbers[`op_${name}`];
    const signal = signals[`fuse_native_signal_${name}`];
    if (op === undefined || signal === undefined) throw new MountError('failed', UNKNOWN_VERSION);
    implemented[op] = 1;
    handlers[op] = (frame, _op, ...args) =>
      onCall({
        name,
        run: () => run(calls, args, frame),
        failure: (errno) => [-errno, ...failureValues(args)],
        answer: (reply) => signal(frame, ...reply),
      });
  }
  const thread = Buffer.alloc(addon.sizeof_fuse_thread_t);
  threads.push(thread);
  try {
    addon.fuse_native_mount(mountPoint, optionText, thread, {}, allocateFrame, handlers, implemented);
  } catch (cause) {
    throw new MountError('failed', `libfuse could not mount on ${mountPoint}; what it says is above`, { cause });
  }
  return () => addon.fuse_native_unmount(mountPoint, thread);
}

/** The binding keeps a reference for as long as the process lives. */
function allocateFrame(sizeBytes: number): Buffer {
  return Buffer.alloc(sizeBytes);
}

const MISSING =
  'driver=portable needs the npm package fuse-native: run "npm install fuse-native" where tsfs is installed (and install the ' +
  'Debian package libfuse2 on other machines than x86-64)';
const UNKNOWN_VERSION = 'this version of the npm package fuse-native is not known: install version 2.2.6';

/** Keeps a library that is no addon loaded (dlopen(3)). */
const RTLD_NODELETE = 0x1000;

function load(): Addon {
  try {
    const here = createRequire(import.meta.url);
    const home = dirname(here.resolve('fuse-native'));
    const within = createRequire(join(home, 'index.js'));
    const find = within('node-gyp-build') as { path(directory: string): string };
    const file = find.path(home);
    try {
      return here(file) as Addon;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ERR_DLOPEN_FAILED') throw error;
      keepLoaded(join(dirname(file), 'libfuse.so'));
      return here(file) as Addon;
    }
  } catch (cause) {
    throw new MountError('no-fuse', MISSING, { cause });
  }
}

/** The addon asks the linker for `libfuse.so.2`; where the system has none, the one beside it, of that very name, is loaded first. */
function keepLoaded(library: string): void {
  try {
    process.dlopen({ exports: {} }, library, constants.dlopen.RTLD_LAZY | RTLD_NODELETE);
  } catch {
    // It always ends here, as it is no addon. Whether it was loaded shows at the next attempt.
  }
}
