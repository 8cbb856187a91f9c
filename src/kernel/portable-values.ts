/** The structures of libfuse as the binding takes them: arrays of 32-bit numbers, 64-bit ones as two, low half first. */
import type { Timespec } from '../base/clock.ts';
import type { Attributes, FileSystemStatus } from './contract.ts';

const STAT_LENGTH = 18;
const STATFS_LENGTH = 11;
const BLOCK_BYTES = 4096;
const UINT32 = 0x1_0000_0000;

/** For calls that failed: the binding wants one nevertheless. */
export const EMPTY_STAT = new Uint32Array(STAT_LENGTH);
export const EMPTY_STATFS = new Uint32Array(STATFS_LENGTH);

/** struct stat. Inode numbers lose their upper half, times what is below a millisecond, and those before 1970 become 1970. */
export function statOf(attributes: Attributes): Uint32Array {
  const stat = statOfEntry(attributes.ino, attributes.mode);
  stat[1] = attributes.uid;
  stat[2] = attributes.gid;
  putDouble(stat, 3, attributes.sizeBytes);
  stat[6] = attributes.nlink;
  stat[9] = BLOCK_BYTES;
  putDouble(stat, 10, attributes.blocks);
  putDouble(stat, 12, milliseconds(attributes.atime));
  putDouble(stat, 14, milliseconds(attributes.mtime));
  putDouble(stat, 16, milliseconds(attributes.ctime));
  return stat;
}

/** For readdir, which takes type and inode number only. */
export function statOfEntry(ino: bigint, mode: number): Uint32Array {
  const stat = new Uint32Array(STAT_LENGTH);
  stat[0] = mode;
  stat[7] = Number(BigInt.asUintN(32, ino));
  return stat;
}

/** struct statvfs. Its counts have 32 bits here, so that a large file system has large blocks. */
export function statfsOf(status: FileSystemStatus): Uint32Array {
  let { blockSizeBytes, blocks, blocksFree } = status;
  while (blocks >= UINT32) {
    blockSizeBytes *= 2;
    blocks = Math.floor(blocks / 2);
    blocksFree = Math.floor(blocksFree / 2);
  }
  const { files, filesFree, maxNameBytes } = status;
  const free = Math.min(filesFree, UINT32 - 1);
  const numbers = [blockSizeBytes, blockSizeBytes, blocks, blocksFree, blocksFree];
  return Uint32Array.from([...numbers, Math.min(files, UINT32 - 1), free, free, 0, 0, maxNameBytes]);
}

export function timespecFromStructMs(ms: bigint): Timespec {
  const sec = ms / 1000n - (ms % 1000n < 0n ? 1n : 0n);
  return { sec: Number(sec), nsec: Number(ms - sec * 1000n) * 1_000_000 };
}

function milliseconds(time: Timespec): number {
  return Math.max(0, time.sec * 1000 + Math.floor(time.nsec / 1_000_000));
}

function putDouble(target: Uint32Array, at: number, value: number): void {
  target[at] = value % UINT32;
  target[at + 1] = Math.floor(value / UINT32);
}
