/** INIT: the first request of a connection, in which kernel and file system agree on what they use. */
import {
  FUSE_MAJOR,
  FUSE_MINOR,
  InitFlag,
  InitFlag2,
  MAX_PAGES,
  MAX_TRANSFER_BYTES,
  OLDEST_MINOR,
} from './protocol.ts';
import type { RequestReader } from './reader.ts';
import type { WireWriter } from './writer.ts';

export interface InitRequest {
  readonly major: number;
  readonly minor: number;
  readonly maxReadaheadBytes: number;
  readonly flags: number;
  readonly flags2: number;
}

export interface Agreement extends InitRequest {
  readonly passthrough: boolean;
}

/**
 * Each is used only when the kernel offers it. Left out on purpose: WRITEBACK_CACHE (the kernel would trust its own size
 * and mtime for ever, wrong on a mount that others write to), POSIX_LOCKS and FLOCK_LOCKS (without them the kernel keeps
 * locks itself, right on one host), DONT_MASK (the kernel applies the umask), ASYNC_DIO (direct reads would become
 * background requests, which a signal cannot interrupt).
 *
 * EXPLICIT_INVAL_DATA, not AUTO_INVAL_DATA: a node is one version of an object, so a changed mtime never means changed
 * content; what the file system changes under the kernel it invalidates itself. Where files are not opened there is no
 * such moment to say that a file is being changed elsewhere: there a changed time does mean changed content.
 */
const WANTED =
  InitFlag.ASYNC_READ |
  InitFlag.ATOMIC_O_TRUNC |
  InitFlag.BIG_WRITES |
  InitFlag.DO_READDIRPLUS |
  InitFlag.READDIRPLUS_AUTO |
  InitFlag.NO_OPEN_SUPPORT |
  InitFlag.PARALLEL_DIROPS |
  InitFlag.MAX_PAGES |
  InitFlag.CACHE_SYMLINKS |
  InitFlag.NO_OPENDIR_SUPPORT |
  InitFlag.HANDLE_KILLPRIV_V2 |
  InitFlag.INIT_EXT;

/** Requests that the kernel sends ahead of anybody waiting (read-ahead, direct I/O), and when it calls that congested. */
const MAX_BACKGROUND = 64;
const CONGESTION_THRESHOLD = 48;

/** struct fuse_init_in: 16 bytes before 7.36, 64 since. */
export function readInit(body: RequestReader): InitRequest {
  const major = body.u32();
  const minor = body.u32();
  const maxReadaheadBytes = body.u32();
  const flags = body.u32();
  const extended = (flags & InitFlag.INIT_EXT) !== 0 && body.remainingBytes >= 4;
  return { major, minor, maxReadaheadBytes, flags, flags2: extended ? body.u32() : 0 };
}

/**
 * Undefined: too old to talk to. A newer major version is answered with ours; the kernel then sends INIT once more.
 * Passthrough excludes nothing that `WANTED` holds, so it is refused only by `wantPassthrough` or the kernel.
 */
export function negotiate(init: InitRequest, wantPassthrough: boolean, withoutOpens = false): Agreement | undefined {
  if (init.major < FUSE_MAJOR || (init.major === FUSE_MAJOR && init.minor < OLDEST_MINOR)) return undefined;
  const passthrough = wantPassthrough && (init.flags2 & InitFlag2.PASSTHROUGH) !== 0;
  const wanted2 = InitFlag2.HAS_RESEND | (passthrough ? InitFlag2.PASSTHROUGH : 0);
  return {
    major: FUSE_MAJOR,
    minor: Math.min(init.minor, FUSE_MINOR),
    // The kernel takes no more than it has; see `raiseReadAhead`, which may come before or after this.
    maxReadaheadBytes: Math.max(init.maxReadaheadBytes, MAX_TRANSFER_BYTES),
    flags: init.flags & (WANTED | (withoutOpens ? InitFlag.AUTO_INVAL_DATA : InitFlag.EXPLICIT_INVAL_DATA)),
    flags2: init.flags2 & wanted2,
    passthrough,
  };
}

/** The kernel sends to a successor what a process that died had not answered (FUSE_NOTIFY_RESEND, Linux 6.9). */
export function canResend(agreement: Agreement): boolean {
  return (agreement.flags2 & InitFlag2.HAS_RESEND) !== 0;
}

/** struct fuse_init_out, 64 bytes. */
export function writeInit(out: WireWriter, agreement: Agreement): void {
  const paged = (agreement.flags & InitFlag.MAX_PAGES) !== 0;
  out.u32(FUSE_MAJOR);
  out.u32(FUSE_MINOR);
  out.u32(agreement.maxReadaheadBytes);
  out.u32(agreement.flags);
  out.u16(MAX_BACKGROUND);
  out.u16(CONGESTION_THRESHOLD);
  out.u32(MAX_TRANSFER_BYTES);
  out.u32(1); // time_gran: nanoseconds
  out.u16(paged ? MAX_PAGES : 0);
  out.u16(0); // map_alignment
  out.u32(agreement.flags2);
  out.u32(agreement.passthrough ? 1 : 0); // max_stack_depth: backing files lie on an ordinary file system
  out.zeros(24);
}
