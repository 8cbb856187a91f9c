import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { eventually } from '../harness.ts';
import { shell } from '../syscalls.ts';
import type { Check } from './scene.ts';

const SETTLE_LIMIT_MS = 10_000;

export const contentChecks: Record<string, Check> = {
  'read-write': async (scene) => {
    await scene.same(`
      open 0 f rw,creat 644
      write 0 hello
      pread 0 0 10
      pwrite 0 1 EL
      pread 0 0 10
      read 0 10
      fstat 0 size,type
      close 0
      open 0 f r 0
      read 0 3
      read 0 10
      read 0 10
      write 0 x
      close 0
      open 0 f w 0
      read 0 10
    `);
  },

  sparse: async (scene) => {
    await scene.same(`
      open 0 f rw,creat 644
      pwrite 0 5000 end
      fstat 0 size
      pread 0 0 4
      pread 0 4998 10
      ftruncate 0 20000
      pread 0 19998 10
      close 0
      open 1 f r 0
      pread 1 4998 10
      pread 1 19998 10
    `);
  },

  append: async (scene) => {
    await scene.same(`
      open 0 f w,creat,append 644
      open 1 f w,append 0
      write 0 one
      write 1 two
      write 0 three
      pwrite 0 0 four
      close 0
      write 1 five
      close 1
      open 2 f r 0
      read 2 100
    `);
  },

  'open-truncate': async (scene) => {
    await scene.same(`
      open 0 f w,creat 644
      write 0 content
      close 0
      open 0 f w,trunc 0
      stat f size
      write 0 new
      close 0
      open 0 f r 0
      read 0 100
      open 1 f w,creat,trunc 600
      close 1
      stat f size,mode
    `);
  },

  truncate: async (scene) => {
    await scene.same(`
      open 0 f w,creat 644
      write 0 content
      close 0
      truncate f 3
      stat f size
      truncate f 6
      open 0 f rw 0
      read 0 100
      ftruncate 0 2
      pread 0 0 100
      ftruncate 0 4
      pread 0 0 100
      close 0
      truncate missing 0
      truncate . 0
    `);
    expect(await scene.bucket.bytes(scene.key('f'))).toEqual(Buffer.from('co\0\0'));
  },

  direct: async (scene) => {
    await scene.same(`
      open 0 f rw,creat,direct 644
      dwrite 0 0 8192 a
      dwrite 0 4096 4096 b
      fstat 0 size
      close 0
      open 1 f r 0
      pread 1 4094 4
      open 2 f r,direct 0
      pread 2 8192 4096
    `);
    // The backing file of passthrough asks for alignment, as ext4 does; the daemon does not.
    const [, unaligned] = await scene.calls('open 3 f r,direct 0\npread 3 4096 8\nclose 3');
    expect(['EINVAL', '"bbbbbbbb"']).toContain(unaligned);
  },

  'mmap-shared': async (scene) => {
    await scene.same(`
      open 0 f rw,creat 644
      write 0 0123456789
      mmap 0 0 10 shared
      poke 0 2 XY
      pread 0 0 10
      pwrite 0 5 Z
      peek 0 0 10
      msync 0
      close 0
      poke 0 9 !
      munmap 0
      open 1 f r 0
      read 1 10
    `);
    await eventually(async () => expect(await scene.bucket.text(scene.key('f'))).toBe('01XY4Z678!'), SETTLE_LIMIT_MS);
  },

  'mmap-private': async (scene) => {
    await scene.same(`
      open 0 f rw,creat 644
      write 0 0123456789
      mmap 0 0 10 private
      poke 0 2 XY
      peek 0 0 10
      pread 0 0 10
      munmap 0
      close 0
      open 1 f r 0
      read 1 10
    `);
  },

  sendfile: async (scene) => {
    await scene.same(`
      open 0 from rw,creat 644
      write 0 0123456789
      open 1 to rw,creat 644
      sendfile 1 0 2 5
      pread 1 0 10
      close 1
      sendfile 0 0 8 10
    `);
  },

  'copy-file-range': async (scene) => {
    await scene.same(`
      open 0 from rw,creat 644
      write 0 0123456789
      close 0
      open 0 from r 0
      open 1 whole rw,creat 644
      copyrange 0 0 1 0 100
      fstat 1 size
      pread 1 0 20
      open 2 part rw,creat 644
      copyrange 0 3 2 2 4
      pread 2 0 20
      close 1
      close 2
      open 3 whole r 0
      read 3 20
    `);
    expect(await scene.bucket.text(scene.key('whole'))).toBe('0123456789');
  },

  fallocate: async (scene) => {
    await scene.same(`
      open 0 f rw,creat 644
      write 0 0123456789
      fallocate 0 0 20 none
      fstat 0 size
      fallocate 0 0 40 keep
      fstat 0 size
      fallocate 0 2 3 keep,punch
      pread 0 0 20
      fallocate 0 6 2 zero
      pread 0 0 20
      close 0
    `);
    expect(await scene.calls('open 0 f rw 0\nfallocate 0 0 4096 collapse')).toEqual(['0', 'EOPNOTSUPP']);
  },

  'seek-data-hole': async (scene) => {
    const results = await scene.calls(`
      open 0 f rw,creat 644
      pwrite 0 100000 end
      seek 0 0 data
      seek 0 0 hole
      seek 0 100003 data
      seek 0 10 set
      seek 0 -2 end
      read 0 10
    `);
    expect(results.slice(2)).toEqual(['0', '100003', 'ENXIO', '10', '100001', '"nd"']);
  },

  close: async (scene) => {
    await scene.same('open 0 f w,creat 644\nwrite 0 content\nclose 0');
    expect(await scene.bucket.text(scene.key('f'))).toBe('content');
  },

  fsync: async (scene) => {
    const path = join(scene.dir, 'f');
    await shell(scene.dir, 'exec 3>f; printf one >&3; sync f');
    expect(await scene.bucket.text(scene.key('f'))).toBe('one');
    await scene.same('open 0 g w,creat 644\nwrite 0 a\nfsync 0\nwrite 0 b\nfdatasync 0\nfsyncdir .');
    expect(await readFile(path, 'utf8')).toBe('one');
  },

  'two-descriptors': async (scene) => {
    await scene.same(`
      open 0 f rw,creat 644
      open 1 f r 0
      write 0 first
      read 1 10
      fstat 1 size
      ftruncate 0 2
      fstat 1 size
      close 0
      pread 1 0 10
      open 2 f rw 0
      pwrite 2 0 X
      pread 1 0 10
    `);
  },

  'unlink-open': async (scene) => {
    await scene.same(`
      open 0 f rw,creat 644
      write 0 content
      fsync 0
      unlink f
      stat f size
      pread 0 0 10
      pwrite 0 0 CON
      pread 0 0 10
      fstat 0 size,nlink
      fchmod 0 600
      fstat 0 mode
      close 0
      ls .
    `);
    expect(await scene.bucket.keys(scene.key('f'))).toEqual([]);
  },

  'unlink-open-old': async (scene) => {
    // Content of an earlier time, which has to come from the bucket, is still there for who has the file open.
    await scene.putElsewhere({ f: 'long ago' });
    expect(await scene.calls('open 0 f r 0\nunlink f\nread 0 20\nopen 1 f r 0')).toEqual([
      '0',
      '0',
      '"long\\x20ago"',
      'ENOENT',
    ]);
  },

  'rename-open': async (scene) => {
    await scene.same(`
      open 0 a rw,creat 644
      write 0 one
      rename a b
      write 0 two
      close 0
      ls .
      open 1 b r 0
      read 1 10
      open 2 b rw 0
      rename b c
      pwrite 2 0 ONE
      fsync 2
      close 2
      open 3 c r 0
      read 3 10
    `);
    expect(await scene.bucket.text(scene.key('c'))).toBe('ONEtwo');
    expect(await scene.bucket.keys(scene.key(''))).not.toContain(scene.key('b'));
  },

  'rename-over-open': async (scene) => {
    await scene.same(`
      open 0 old w,creat 644
      write 0 old
      close 0
      open 0 old r 0
      open 1 new w,creat 644
      write 1 newer
      close 1
      rename new old
      pread 0 0 10
      fstat 0 size,nlink
      open 2 old r 0
      read 2 10
      ls .
    `);
  },

  'identical-rewrite': async (scene) => {
    const path = join(scene.dir, 'f');
    await writeFile(path, 'same');
    await shell(scene.dir, 'touch -d @1000000000 f');
    const before = await scene.bucket.head(scene.key('f'));
    await writeFile(path, 'same');
    expect(await scene.calls('stat f mtime')).toEqual(['1000000000.000000000']);
    expect(await scene.bucket.head(scene.key('f'))).toEqual(before);
  },

  tmpfile: async (scene) => {
    expect(await scene.calls('open 0 . rw,tmpfile 600')).toEqual(['EOPNOTSUPP']);
  },

  'read-only': async (scene) => {
    await scene.putElsewhere({ f: 'content' });
    await scene.there.remount(['ro']);
    try {
      expect(
        await scene.callsThere(
          'open 0 f r 0\nread 0 10\nopen 1 f w 0\nopen 2 g w,creat 644\nmkdir d 755\nchmod f 600\nunlink f',
        ),
      ).toEqual(['0', '"content"', 'EROFS', 'EROFS', 'EROFS', 'EROFS', 'EROFS']);
    } finally {
      await scene.there.remount();
    }
  },
};
