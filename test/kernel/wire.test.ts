import { describe, expect, test } from 'vitest';
import type { NodeId } from '../../src/base/ids.ts';
import type { Attributes } from '../../src/kernel/contract.ts';
import { DirectoryPacker } from '../../src/kernel/directory.ts';
import { negotiate, readInit, writeInit } from '../../src/kernel/negotiation.ts';
import { ERRNO, InitFlag, InitFlag2, SetAttr } from '../../src/kernel/protocol.ts';
import { RequestReader, WireError } from '../../src/kernel/reader.ts';
import { Request } from '../../src/kernel/request.ts';
import {
  durationFromMs,
  readAttributeChange,
  writeAttributesReply,
  writeEntry,
  writeFileSystemStatus,
  writeOpen,
} from '../../src/kernel/structs.ts';
import { WireWriter } from '../../src/kernel/writer.ts';
import { encodeRequest, fields } from './support/fake-kernel.ts';

const attributes: Attributes = {
  ino: 0xfedc_ba98_7654_3210n,
  mode: 0o100640,
  nlink: 1,
  uid: 33,
  gid: 34,
  sizeBytes: 0x1_0000_0002,
  blocks: 9,
  atime: { sec: 11, nsec: 12 },
  mtime: { sec: -1, nsec: 999_999_999 },
  ctime: { sec: 0x1_0000_0005, nsec: 0 },
};

const attributesOnWire = fields(
  0xfedc_ba98_7654_3210n,
  0x1_0000_0002n,
  9n,
  11n,
  -1n,
  0x1_0000_0005n,
  ...[12, 999_999_999, 0, 0o100640, 1, 33, 34, 0, 4096, 0],
);

function written(write: (out: WireWriter) => void): Buffer {
  const out = new WireWriter(Buffer.alloc(1024, 0xaa));
  write(out);
  return Buffer.from(out.written);
}

function readerOf(bytes: Buffer): RequestReader {
  const memory = new ArrayBuffer(bytes.length + 8);
  Buffer.from(memory).fill(0x41).set(bytes);
  return new RequestReader(memory).reset(0, bytes.length);
}

function errnoOf(read: () => unknown): number {
  try {
    read();
  } catch (error) {
    if (error instanceof WireError) return error.errno;
    throw error;
  }
  return 0;
}

describe('structs of replies', () => {
  test('fuse_attr_out', () => {
    const bytes = written((out) => writeAttributesReply(out, { attributes, ttlMs: 1500.25 }));
    expect(bytes).toEqual(Buffer.concat([fields(1n, 500_250_000, 0), attributesOnWire]));
    expect(bytes.length).toBe(104);
  });

  test('fuse_entry_out', () => {
    const entry = { node: 0x12_3456_789a as NodeId, entryTtlMs: 2000, attributes, ttlMs: 250 };
    const bytes = written((out) => writeEntry(out, entry));
    expect(bytes).toEqual(Buffer.concat([fields(0x12_3456_789an, 0n, 2n, 0n, 0, 250_000_000), attributesOnWire]));
    expect(bytes.length).toBe(128);
  });

  test('fuse_entry_out of a missing name', () => {
    const bytes = written((out) => writeEntry(out, { node: undefined, entryTtlMs: 1001 }));
    expect(bytes).toEqual(Buffer.concat([fields(0n, 0n, 1n, 0n, 1_000_000), Buffer.alloc(92)]));
  });

  test('fuse_open_out', () => {
    expect(written((out) => writeOpen(out, 7, 0x82, 7))).toEqual(fields(7n, 0x82, 7));
  });

  test('fuse_kstatfs', () => {
    const status = { blockSizeBytes: 512, blocks: 8, blocksFree: 7, files: 6, filesFree: 5, maxNameBytes: 255 };
    const bytes = written((out) => writeFileSystemStatus(out, status));
    expect(bytes).toEqual(Buffer.concat([fields(8n, 7n, 7n, 6n, 5n, 512, 255, 512), Buffer.alloc(28)]));
    expect(bytes.length).toBe(80);
  });

  test('the header comes last and counts itself', () => {
    const out = new WireWriter(Buffer.alloc(64));
    out.begin();
    out.u32(1);
    out.finish(-2, 3, 0x8000_0004);
    expect(out.written).toEqual(fields(20, 0xffff_fffe, 3, 0x8000_0004, 1));
  });

  test('nothing is written beyond the end', () => {
    const out = new WireWriter(Buffer.alloc(4));
    expect(() => out.text('hello')).toThrow(RangeError);
    expect(() => out.bytes(Buffer.alloc(5))).toThrow(RangeError);
    expect(() => out.zeros(5)).toThrow(RangeError);
    expect(() => out.u64(1)).toThrow(RangeError);
  });

  test.each([
    [0, 0, 0],
    [-5, 0, 0],
    [Number.NaN, 0, 0],
    [0.5, 0, 500_000],
    [999.9999999, 0, 999_999_999],
    [1000, 1, 0],
    [Number.POSITIVE_INFINITY, 0x7fff_ffff, 0],
  ])('a time to live of %d ms', (ttlMs, sec, nsec) => {
    expect(durationFromMs(ttlMs)).toEqual({ sec, nsec });
  });
});

describe('directories', () => {
  const plain = { ino: 5n, typeMode: 0o100000 };

  test('fuse_dirent, padded to 8 bytes', () => {
    const packer = new DirectoryPacker(4096, false);
    expect(packer.add({ ...plain, name: 'abc', nextOffset: 1 })).toBe(true);
    expect(packer.add({ ino: 6n, typeMode: 0o40000, name: 'exactly8', nextOffset: 2 })).toBe(true);
    const first = fields(5n, 1n, 3, 8, Buffer.from('abc\0\0\0\0\0'));
    expect(packer.packed).toEqual(Buffer.concat([first, fields(6n, 2n, 8, 4, Buffer.from('exactly8'))]));
  });

  test('an entry that does not fit is refused whole', () => {
    const packer = new DirectoryPacker(63, false);
    expect(packer.add({ ...plain, name: 'a', nextOffset: 1 })).toBe(true);
    expect(packer.add({ ...plain, name: 'b', nextOffset: 2 })).toBe(false);
    expect(packer.packed.length).toBe(32);
  });

  test('fuse_direntplus', () => {
    const packer = new DirectoryPacker(4096, true);
    const entry = { node: 77 as NodeId, entryTtlMs: 0, attributes, ttlMs: 0 };
    packer.add({ ...plain, name: 'é', nextOffset: 3, entry });
    const head = Buffer.concat([fields(77n, 0n, 0n, 0n, 0, 0), attributesOnWire]);
    expect(packer.packed).toEqual(Buffer.concat([head, fields(5n, 3n, 2, 8, Buffer.from('é\0\0\0\0\0\0'))]));
  });

  test('names without entries, and the dots in any case, have node id 0', () => {
    const entry = { node: 77 as NodeId, entryTtlMs: 0, attributes, ttlMs: 0 };
    for (const item of [{ name: 'x' }, { name: '.', entry }, { name: '..', entry }]) {
      const packer = new DirectoryPacker(4096, true);
      packer.add({ ...plain, nextOffset: 1, ...item });
      expect(packer.packed.subarray(0, 128)).toEqual(Buffer.alloc(128));
      expect(packer.packed.length).toBe(160);
    }
  });
});

describe('requests', () => {
  test('fuse_in_header', () => {
    const bytes = encodeRequest({ opcode: 15, unique: 0x8000_0001_0000_0002n, node: 0x10_0000_0003n });
    const request = new Request(readerOf(bytes), 9);
    expect(request).toMatchObject({ opcode: 15, uniqueLow: 2, uniqueHigh: 0x8000_0001, node: 0x10_0000_0003, slot: 9 });
    expect(request).toMatchObject({ uid: 1000, gid: 1001, pid: 4242, sizeBytes: 40, key: 0x1_0000_0002 });
  });

  test('fuse_setattr_in with everything', () => {
    const { MODE, UID, GID, SIZE, ATIME, MTIME, MTIME_NOW, KILL_SUIDGID } = SetAttr;
    const valid = MODE | UID | GID | SIZE | ATIME | MTIME | MTIME_NOW | KILL_SUIDGID;
    const times = [-7n, 8n, 9n] as const;
    const body = fields(valid, 0, 1n, 4096n, 2n, ...times, ...[10, 11, 12, 0o104755, 0, 33, 34, 0]);
    expect(body.length).toBe(88);
    expect(readAttributeChange(readerOf(body))).toEqual({
      mode: 0o4755,
      uid: 33,
      gid: 34,
      sizeBytes: 4096,
      atime: { sec: -7, nsec: 10 },
      mtime: 'now',
      killPrivileges: true,
    });
  });

  test('fuse_setattr_in with nothing ignores what its fields hold', () => {
    const body = fields(0, 0, 1n, -1n, 2n, 1n, 2n, 3n, ...[-1, -1, -1, -1, 0, 0, 0, 0].map((n) => n >>> 0));
    expect(readAttributeChange(readerOf(body))).toEqual({});
  });

  test('fuse_setattr_in with impossible values', () => {
    const size = fields(SetAttr.SIZE, 0, 0n, 1n << 53n, 0n, 0n, 0n, 0n, ...new Array<number>(8).fill(0));
    expect(errnoOf(() => readAttributeChange(readerOf(size)))).toBe(ERRNO.EFBIG);
    const nsec = fields(SetAttr.ATIME, 0, 0n, 0n, 0n, 0n, 0n, 0n, 1e9, ...new Array<number>(7).fill(0));
    expect(errnoOf(() => readAttributeChange(readerOf(nsec)))).toBe(ERRNO.EINVAL);
  });

  test.each([
    ['ok', fields('ok'), 0],
    ['255 bytes', fields('x'.repeat(255)), 0],
    ['256 bytes', fields('x'.repeat(256)), ERRNO.ENAMETOOLONG],
    ['256 bytes in 128 characters', fields('é'.repeat(128)), ERRNO.ENAMETOOLONG],
    ['empty', fields(''), ERRNO.EINVAL],
    ['no NUL', Buffer.from('abc'), ERRNO.EINVAL],
    ['nothing at all', Buffer.alloc(0), ERRNO.EINVAL],
    ['a slash', fields('a/b'), ERRNO.EINVAL],
    ['dot', fields('.'), ERRNO.EINVAL],
    ['dot dot', fields('..'), ERRNO.EINVAL],
    ['Latin-1', Buffer.from([0xe9, 0]), ERRNO.EILSEQ],
    ['half a surrogate pair', Buffer.from([0xed, 0xa0, 0x80, 0]), ERRNO.EILSEQ],
    ['an overlong NUL', Buffer.from([0xc0, 0x80, 0]), ERRNO.EILSEQ],
  ])('a name: %s', (_label, bytes, errno) => {
    expect(errnoOf(() => readerOf(bytes).name())).toBe(errno);
  });

  test('names keep every character', () => {
    for (const name of ['plain', 'bücher 📚', '\u0001\x7f', 'a\u0301'])
      expect(readerOf(fields(name)).name()).toBe(name);
  });

  test('nothing is read beyond the end, though the buffer goes on', () => {
    expect(errnoOf(() => readerOf(Buffer.alloc(3)).u32())).toBe(ERRNO.EINVAL);
    expect(errnoOf(() => readerOf(Buffer.alloc(7)).u64())).toBe(ERRNO.EINVAL);
    expect(errnoOf(() => readerOf(Buffer.alloc(7)).seconds())).toBe(ERRNO.EINVAL);
    expect(errnoOf(() => readerOf(Buffer.alloc(7)).skip(8))).toBe(ERRNO.EINVAL);
    expect(errnoOf(() => readerOf(Buffer.alloc(7)).bytes(8))).toBe(ERRNO.EINVAL);
  });

  test('bounds of 64-bit numbers', () => {
    expect(readerOf(fields((1n << 53n) - 1n)).u64()).toBe(Number.MAX_SAFE_INTEGER);
    expect(errnoOf(() => readerOf(fields(1n << 53n)).u64())).toBe(ERRNO.EINVAL);
    expect(errnoOf(() => readerOf(fields(-1n)).u64(ERRNO.EFBIG))).toBe(ERRNO.EFBIG);
    expect(readerOf(fields(-1n)).seconds()).toBe(-1);
    expect(errnoOf(() => readerOf(fields(1n << 62n)).seconds())).toBe(ERRNO.EINVAL);
  });
});

describe('INIT', () => {
  const everything = { major: 7, minor: 45, maxReadaheadBytes: 131_072, flags: -1, flags2: -1 };

  test('fuse_init_in, old and new', () => {
    const short = readerOf(fields(7, 31, 4096, InitFlag.ASYNC_READ));
    expect(readInit(short)).toEqual({ major: 7, minor: 31, maxReadaheadBytes: 4096, flags: 1, flags2: 0 });
    const long = readerOf(Buffer.concat([fields(7, 45, 4096, InitFlag.INIT_EXT, 0xa0), Buffer.alloc(44)]));
    expect(readInit(long)).toMatchObject({ flags: InitFlag.INIT_EXT, flags2: 0xa0 });
  });

  test('only what is offered is used', () => {
    const { ASYNC_READ, MAX_PAGES } = InitFlag;
    const agreement = negotiate({ ...everything, flags: ASYNC_READ | MAX_PAGES, flags2: 0 }, true);
    expect(agreement).toMatchObject({ flags: ASYNC_READ | MAX_PAGES, flags2: 0, passthrough: false });
  });

  test('what must never be used is not used', () => {
    const agreement = negotiate(everything, true);
    const writebackCache = 1 << 16;
    const posixLocks = 1 << 1;
    const flock = 1 << 10;
    const forbidden = writebackCache | posixLocks | flock | InitFlag.AUTO_INVAL_DATA;
    expect((agreement?.flags ?? -1) & forbidden).toBe(0);
    expect(agreement?.flags2).toBe(InitFlag2.PASSTHROUGH | InitFlag2.HAS_RESEND);
  });

  test('passthrough can be switched off', () => {
    expect(negotiate(everything, false)).toMatchObject({ flags2: InitFlag2.HAS_RESEND, passthrough: false });
  });

  test('versions', () => {
    expect(negotiate({ ...everything, minor: 30 }, true)).toBeUndefined();
    expect(negotiate({ ...everything, major: 6, minor: 99 }, true)).toBeUndefined();
    expect(negotiate({ ...everything, minor: 31 }, true)).toMatchObject({ major: 7, minor: 31 });
    expect(negotiate({ ...everything, minor: 99 }, true)).toMatchObject({ major: 7, minor: 45 });
    expect(negotiate({ ...everything, major: 8, minor: 0 }, true)).toMatchObject({ major: 7 });
  });

  test('fuse_init_out', () => {
    const agreement = negotiate({ ...everything, flags: InitFlag.MAX_PAGES | InitFlag.INIT_EXT }, true);
    const bytes = written((out) => agreement && writeInit(out, agreement));
    const flags = InitFlag.MAX_PAGES | InitFlag.INIT_EXT;
    const head = fields(7, 45, 1 << 20, flags, 64 | (48 << 16), 1 << 20, 1, 256, 0xa0, 1);
    expect(bytes).toEqual(Buffer.concat([head, Buffer.alloc(24)]));
    expect(bytes.length).toBe(64);
  });
});
