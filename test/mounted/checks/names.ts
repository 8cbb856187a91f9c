import { readdir, readFile } from 'node:fs/promises';
import { expect } from 'vitest';
import { eventually } from '../harness.ts';
import { shell } from '../syscalls.ts';
import type { Check } from './scene.ts';

export const nameChecks: Record<string, Check> = {
  create: async (scene) => {
    await scene.same(`
      stat f size
      open 0 f r 0
      open 0 f w,creat,excl 640
      close 0
      stat f type,mode,size
      open 0 f w,creat,excl 640
      open 0 f w,creat 600
      stat f mode
      mknod g file 604
      stat g type,mode,size
      mknod g file 604
      open 0 missing/f w,creat 644
      open 0 f/g w,creat 644
      umask 077
      open 0 h w,creat 666
      stat h mode
    `);
  },

  mkdir: async (scene) => {
    await scene.same(`
      mkdir d 750
      stat d type,mode
      mkdir d 750
      mkdir d/e 700
      open 0 d/e/f w,creat 644
      close 0
      ls d
      ls d/e
      mkdir f/g 755
      mkdir missing/g 755
      open 1 d w 0
      open 1 d r,directory 0
      open 1 d/e/f r,directory 0
    `);
    expect((await scene.bucket.head(scene.key('d/'))).contentType).toBe('application/x-directory');
  },

  unlink: async (scene) => {
    await scene.same(`
      open 0 f w,creat 644
      close 0
      unlink f
      unlink f
      stat f size
      mkdir d 755
      unlink d
      unlink d/missing
      ls .
    `);
  },

  rmdir: async (scene) => {
    await scene.same(`
      mkdir d 755
      open 0 d/f w,creat 644
      close 0
      rmdir d
      unlink d/f
      rmdir d
      rmdir d
      open 0 f w,creat 644
      rmdir f
      ls .
    `);
  },

  'rmdir-others': async (scene) => {
    // Not empty for another reason than this server's own files.
    await scene.calls('mkdir d 755');
    await scene.putElsewhere({ 'd/from-elsewhere': 'x' });
    expect(await scene.calls('rmdir d')).toEqual(['ENOTEMPTY']);
  },

  'last-entry': async (scene) => {
    await scene.putElsewhere({ 'implied/only': 'x' });
    expect(await scene.calls('unlink implied/only\nstat implied type\nls implied')).toEqual([
      '0',
      'directory',
      '(empty)',
    ]);
    expect(await scene.bucket.keys(scene.key('implied'))).toEqual([scene.key('implied/')]);
  },

  'rename-file': async (scene) => {
    await scene.same(`
      open 0 a w,creat 640
      write 0 content
      close 0
      mkdir d 755
      rename a b
      stat a size
      rename b d/c
      open 0 d/c r 0
      read 0 10
      stat d/c mode,size
      open 1 e w,creat 644
      write 1 other
      close 1
      rename e d/c
      open 1 d/c r 0
      read 1 10
      rename d/c d/c
      rename missing x
      rename d/c d
      rename d/c missing/x
      ls d
    `);
    expect(await scene.bucket.keys(scene.key(''))).toEqual(expect.arrayContaining([scene.key('d/'), scene.key('d/c')]));
  },

  'rename-directory': async (scene) => {
    await scene.same(`
      mkdir d 750
      mkdir d/e 700
      open 0 d/e/f w,creat 600
      write 0 deep
      close 0
      symlink e/f d/link
      rename d moved
      stat moved mode
      stat moved/e mode
      open 0 moved/e/f r 0
      read 0 10
      readlink moved/link
      stat d mode
      mkdir empty 755
      rename moved empty
      ls .
      ls empty/e
      mkdir full 755
      open 0 full/x w,creat 644
      close 0
      rename empty full
      open 0 file w,creat 644
      close 0
      rename empty file
      rename file empty
      rename empty empty/e/inside
    `);
    const keys = await scene.bucket.keys(scene.key('empty'));
    expect(keys).toEqual(['empty/', 'empty/e/', 'empty/e/f', 'empty/link'].map((name) => scene.key(name)));
  },

  'rename-noreplace': async (scene) => {
    await scene.same(`
      open 0 a w,creat 644
      open 1 b w,creat 644
      rename2 a b noreplace
      rename2 a c noreplace
      ls .
    `);
  },

  'rename-exchange': async (scene) => {
    const script = 'open 0 a w,creat 644\nopen 1 b w,creat 644\nrename2 a b exchange\nrename2 a b whiteout';
    expect((await scene.calls(script)).slice(2)).toEqual(['EINVAL', 'EINVAL']);
  },

  'hard-link': async (scene) => {
    expect((await scene.calls('open 0 a w,creat 644\nlink a b')).at(-1)).toBe('EPERM');
  },

  'special-files': async (scene) => {
    expect(
      await scene.calls('mknod p fifo 644\nmknod s socket 644\nmknod c char 644\nmknod b block 644\nls .'),
    ).toEqual(['EPERM', 'EPERM', 'EPERM', 'EPERM', '(empty)']);
  },

  symlink: async (scene) => {
    await scene.same(`
      symlink target link
      lstat link type,mode,size
      readlink link
      stat link size
      open 0 link r 0
      open 0 link w,creat 644
      write 0 through
      close 0
      stat target size
      open 0 link r,nofollow 0
      symlink other link
      readlink target
      symlink . dot
      ls dot/dot
      unlink link
      stat target size
      rename dot link
      readlink link
      symlink /tmp absolute
      readlink absolute
    `);
  },

  'symlink-object': async (scene) => {
    // Written as s3fs does, and read as s3fs writes it.
    await scene.calls('symlink ../to/here link');
    expect(await scene.bucket.text(scene.key('link'))).toBe('../to/here');
    const { metadata, contentType } = await scene.bucket.head(scene.key('link'));
    expect(Number(metadata.mode) & 0o170000).toBe(0o120000);
    expect(contentType).toBe('application/octet-stream');
    const byS3fs = { mode: '41471', uid: '0', gid: '0', mtime: '1500000000' };
    await scene.putElsewhere({ 'by-s3fs': 'over/there' }, { metadata: byS3fs });
    expect(await scene.calls('lstat by-s3fs type,size,mtime\nreadlink by-s3fs')).toEqual([
      'symlink 10 1500000000.000000000',
      '"over/there"',
    ]);
  },

  'long-names': async (scene) => {
    const longest = 'n'.repeat(255);
    await scene.same(`
      open 0 ${longest} w,creat 644
      close 0
      stat ${longest} type
      open 0 ${longest}x w,creat 644
      stat ${longest}x type
      mkdir ${longest}x 755
      rename ${longest} ${longest}x
      ls .
    `);
  },

  'long-keys': async (scene) => {
    const part = 'k'.repeat(250);
    const results = await scene.calls(`
      mkdir ${part} 755
      mkdir ${part}/${part} 755
      mkdir ${part}/${part}/${part} 755
      mkdir ${part}/${part}/${part}/${part} 755
      open 0 ${part}/${part}/${part}/${part}/${part} w,creat 644
    `);
    expect(results.at(-1)).toBe(results[3] === '0' ? 'ENAMETOOLONG' : 'ENOENT');
    expect(results).toContain('ENAMETOOLONG');
  },

  'odd-names': async (scene) => {
    const names = ['ä ö', '日本', 'a+b%20c', '#?&=', 'quote\'"', '~', 'new\nline', '\\', 'UPPER', 'upper', '...'];
    const script = `for name in "$@"; do printf '%s' "$name" >"$name"; done`;
    await shell(scene.dir, `set -- ${names.map((name) => `'${name.replaceAll("'", `'\\''`)}'`).join(' ')}; ${script}`);
    expect((await readdir(scene.dir)).sort()).toEqual([...names].sort());
    await scene.here.remount();
    for (const name of names) expect(await readFile(`${scene.dir}/${name}`, 'utf8')).toBe(name);
  },

  readdir: async (scene) => {
    await shell(scene.dir, 'mkdir sub; ln -s x link; for i in $(seq 1 300); do : > file$i; done');
    const entries = await readdir(scene.dir, { withFileTypes: true });
    expect(entries).toHaveLength(302);
    expect(entries.filter((entry) => entry.isFile())).toHaveLength(300);
    expect(entries.find((entry) => entry.isDirectory())?.name).toBe('sub');
    expect(await shell(scene.dir, 'ls -a | head -n 2')).toBe('.\n..\n');
    expect(await shell(scene.dir, 'rm -r ./*; ls -A')).toBe('');
  },

  'skipped-keys': async (scene) => {
    const bad = { 'a//b': 'x', './c': 'x', '../d': 'x', ['e'.repeat(300)]: 'x' };
    await scene.putElsewhere({ ...bad, good: 'x', both: 'file', 'both/inside': 'x' });
    expect(await scene.calls('ls .\nstat both type\nls both\nstat good size')).toEqual([
      'a both good',
      'directory',
      'inside',
      '1',
    ]);
  },

  'skipped-keys-rmdir': async (scene) => {
    await scene.putElsewhere({ 'd//hidden': 'x', 'd/shown': 'x' });
    expect(await scene.calls('ls d\nunlink d/shown\nls d\nrmdir d\nls .')).toEqual([
      'shown',
      '0',
      '(empty)',
      'ENOTEMPTY',
      'd',
    ]);
    await eventually(async () => {
      expect((await scene.bucket.keys(scene.key('d/'))).filter((key) => key.endsWith('n'))).toEqual([
        scene.key('d//hidden'),
      ]);
    }, 10_000);
  },

  'file-and-directory': async (scene) => {
    await scene.putElsewhere({ a: 'a file', 'a/b': 'x' });
    expect(await scene.calls('ls .\nstat a type\nunlink a/b\nrmdir a')).toEqual(['a', 'directory', '0', '0']);
    await eventually(async () => expect(await scene.calls('ls .\nstat a type,size')).toEqual(['a', 'file 6']), 10_000);
  },
};
