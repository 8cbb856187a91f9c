/** The structs of replies, each as the kernel lays it out. */
import type { Timespec } from '../base/clock.ts';
import type {
  AttributeChange,
  Attributes,
  AttributesReply,
  Entry,
  FileSystemStatus,
  NegativeEntry,
  SetTime,
} from './contract.ts';
import { ERRNO, SetAttr } from './protocol.ts';
import { type RequestReader, WireError } from './reader.ts';
import type { WireWriter } from './writer.ts';

/** What st_blksize says: a hint for the size of reads and writes. */
const BLOCK_SIZE_HINT = 4096;
/** "For ever". The kernel clamps it further. */
const MAX_TTL_MS = 0x7fff_ffff * 1000;

interface Duration {
  readonly sec: number;
  readonly nsec: number;
}

/** Negative and NaN count as 0, so that a defect never makes the kernel believe something for ever. */
export function durationFromMs(ttlMs: number): Duration {
  const ms = ttlMs > 0 ? Math.min(ttlMs, MAX_TTL_MS) : 0;
  const sec = Math.floor(ms / 1000);
  return { sec, nsec: Math.min(999_999_999, Math.round((ms - sec * 1000) * 1e6)) };
}

/** struct fuse_attr, 88 bytes. */
export function writeAttributes(out: WireWriter, attributes: Attributes): void {
  const { atime, mtime, ctime } = attributes;
  out.big64(attributes.ino);
  out.u64(attributes.sizeBytes);
  out.u64(attributes.blocks);
  out.u64(atime.sec);
  out.u64(mtime.sec);
  out.u64(ctime.sec);
  out.u32(atime.nsec);
  out.u32(mtime.nsec);
  out.u32(ctime.nsec);
  out.u32(attributes.mode);
  out.u32(attributes.nlink);
  out.u32(attributes.uid);
  out.u32(attributes.gid);
  out.u32(0); // rdev
  out.u32(BLOCK_SIZE_HINT);
  out.u32(0); // flags
}

/** struct fuse_attr_out, 104 bytes. */
export function writeAttributesReply(out: WireWriter, reply: AttributesReply): void {
  const valid = durationFromMs(reply.ttlMs);
  out.u64(valid.sec);
  out.u32(valid.nsec);
  out.u32(0);
  writeAttributes(out, reply.attributes);
}

export const ENTRY_OUT_BYTES = 128;

/** struct fuse_entry_out, 128 bytes. A missing name has node id 0. */
export function writeEntry(out: WireWriter, entry: Entry | NegativeEntry): void {
  const entryValid = durationFromMs(entry.entryTtlMs);
  out.u64(entry.node ?? 0);
  out.u64(0); // generation: node ids are never reused
  out.u64(entryValid.sec);
  if (entry.node === undefined) {
    out.u64(0);
    out.u32(entryValid.nsec);
    out.zeros(92);
    return;
  }
  const attributesValid = durationFromMs(entry.ttlMs);
  out.u64(attributesValid.sec);
  out.u32(entryValid.nsec);
  out.u32(attributesValid.nsec);
  writeAttributes(out, entry.attributes);
}

/** struct fuse_open_out, 16 bytes. `handle` comes back with RELEASE. */
export function writeOpen(out: WireWriter, handle: number, openFlags: number, backingId: number): void {
  out.u64(handle);
  out.u32(openFlags);
  out.u32(backingId);
}

/** struct fuse_kstatfs, 80 bytes. */
export function writeFileSystemStatus(out: WireWriter, status: FileSystemStatus): void {
  out.u64(status.blocks);
  out.u64(status.blocksFree);
  out.u64(status.blocksFree); // available to everybody
  out.u64(status.files);
  out.u64(status.filesFree);
  out.u32(status.blockSizeBytes);
  out.u32(status.maxNameBytes);
  out.u32(status.blockSizeBytes); // fragment size
  out.zeros(28);
}

/** struct fuse_write_out, and the like: a count and padding. */
export function writeCount(out: WireWriter, count: number): void {
  out.u32(count);
  out.u32(0);
}

/** With HANDLE_KILLPRIV_V2 a change of owner always takes set-uid away, and the kernel does not say so. */
const KILLING = SetAttr.KILL_SUIDGID | SetAttr.UID | SetAttr.GID;

/** struct fuse_setattr_in, 88 bytes. */
export function readAttributeChange(body: RequestReader): AttributeChange {
  const valid = body.u32();
  body.skip(12); // padding, fh
  const sizeBytes = (valid & SetAttr.SIZE) === 0 ? skipped(body, 8) : body.u64(ERRNO.EFBIG);
  body.skip(8); // lock_owner
  const atimeSec = body.seconds();
  const mtimeSec = body.seconds();
  body.skip(8); // ctime
  const atimeNsec = body.u32();
  const mtimeNsec = body.u32();
  body.skip(4); // ctimensec
  const mode = body.u32();
  body.skip(4);
  const uid = body.u32();
  const gid = body.u32();
  body.skip(4);
  const atime = setTime(valid, SetAttr.ATIME, SetAttr.ATIME_NOW, atimeSec, atimeNsec);
  const mtime = setTime(valid, SetAttr.MTIME, SetAttr.MTIME_NOW, mtimeSec, mtimeNsec);
  return {
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
    ...((valid & SetAttr.MODE) === 0 ? {} : { mode: mode & 0o7777 }),
    ...((valid & SetAttr.UID) === 0 ? {} : { uid }),
    ...((valid & SetAttr.GID) === 0 ? {} : { gid }),
    ...(atime === undefined ? {} : { atime }),
    ...(mtime === undefined ? {} : { mtime }),
    ...((valid & KILLING) === 0 ? {} : { killPrivileges: true }),
  };
}

function skipped(body: RequestReader, sizeBytes: number): undefined {
  body.skip(sizeBytes);
  return undefined;
}

function setTime(valid: number, flag: number, nowFlag: number, sec: number, nsec: number): SetTime | undefined {
  if ((valid & flag) === 0) return undefined;
  if ((valid & nowFlag) !== 0) return 'now';
  if (nsec > 999_999_999) throw new WireError('nanoseconds out of range');
  return { sec, nsec } satisfies Timespec;
}
