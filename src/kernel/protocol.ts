/** Numbers of the FUSE protocol (Linux `include/uapi/linux/fuse.h`, 7.45), as far as this driver uses them. */
import { constants } from 'node:os';

export const ERRNO = constants.errno;

export const FUSE_MAJOR = 7;
/** What this driver speaks. */
export const FUSE_MINOR = 45;
/** Linux 5.4. Older kernels have other struct sizes. */
export const OLDEST_MINOR = 31;

export const IN_HEADER_BYTES = 40;
export const OUT_HEADER_BYTES = 16;
export const WRITE_IN_BYTES = 40;

/** 1 MiB requests: 256 pages is what the kernel allows without a sysctl. */
export const MAX_PAGES = 256;
export const MAX_TRANSFER_BYTES = MAX_PAGES * 4096;
export const MAX_NAME_BYTES = 255;
/** PATH_MAX without its NUL. */
export const MAX_SYMLINK_BYTES = 4095;

export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  DESTROY: 38,
  IOCTL: 39,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SYNCFS: 50,
} as const;

/** The lower half of INIT's flags. */
export const InitFlag = {
  ASYNC_READ: 1 << 0,
  ATOMIC_O_TRUNC: 1 << 3,
  BIG_WRITES: 1 << 5,
  AUTO_INVAL_DATA: 1 << 12,
  DO_READDIRPLUS: 1 << 13,
  READDIRPLUS_AUTO: 1 << 14,
  NO_OPEN_SUPPORT: 1 << 17,
  PARALLEL_DIROPS: 1 << 18,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  NO_OPENDIR_SUPPORT: 1 << 24,
  EXPLICIT_INVAL_DATA: 1 << 25,
  HANDLE_KILLPRIV_V2: 1 << 28,
  /** The upper half (`flags2`) is valid. */
  INIT_EXT: 1 << 30,
} as const;

/** The upper half of INIT's flags: bit n here is bit 32 + n of the protocol. */
export const InitFlag2 = {
  PASSTHROUGH: 1 << 5,
  HAS_RESEND: 1 << 7,
} as const;

export const SetAttr = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  KILL_SUIDGID: 1 << 11,
} as const;

export const OpenFlag = {
  DIRECT_IO: 1 << 0,
  KEEP_CACHE: 1 << 1,
  CACHE_DIR: 1 << 3,
  NOFLUSH: 1 << 5,
  PASSTHROUGH: 1 << 7,
} as const;

export const OPEN_KILL_SUIDGID = 1 << 0;

export const WRITE_KILL_SUIDGID = 1 << 2;

export const RENAME_NOREPLACE = 1 << 0;

export const Notify = {
  INVAL_INODE: 2,
  INVAL_ENTRY: 3,
  /** Send again what was taken and not answered (Linux 6.9). */
  RESEND: 7,
} as const;

const OPCODE_NAMES = new Map<number, string>(Object.entries(Opcode).map(([name, opcode]) => [opcode, name]));

/** For logs. */
export function opcodeName(opcode: number): string {
  return OPCODE_NAMES.get(opcode) ?? `opcode ${opcode}`;
}
