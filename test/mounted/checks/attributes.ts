import { utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { shell } from '../syscalls.ts';
import { type Check, EXPIRE_SECONDS, type Scene } from './scene.ts';

const NOBODY = 65534;

/** Here, after a remount of this server, and on the other one. */
async function everywhere(scene: Scene, call: string): Promise<string[][]> {
  const before = await scene.calls(call);
  await scene.here.remount();
  const after = await scene.calls(call);
  await sleep(EXPIRE_SECONDS * 1000);
  return [before, after, await scene.callsThere(call)];
}

export const attributeChecks: Record<string, Check> = {
  chmod: async (scene) => {
    await scene.same(`
      open 0 f w,creat 644
      chmod f 600
      stat f mode
      fchmod 0 4755
      stat f mode
      close 0
      stat f mode
      chmod missing 600
      mkdir d 755
      chmod d 1770
      stat d mode
    `);
    for (const seen of await everywhere(scene, 'stat f mode\nstat d mode')) expect(seen).toEqual(['4755', '1770']);
  },

  chown: async (scene) => {
    await scene.same(`
      open 0 f w,creat 644
      close 0
      chown f 33 44
      stat f uid,gid
      chown f -1 55
      stat f uid,gid
      mkdir d 755
      chown d 33 33
      stat d uid,gid
      symlink f l
      chown l 1 2
      lstat l uid,gid
      stat f uid,gid
    `);
    for (const seen of await everywhere(scene, 'stat f uid,gid\nstat d uid,gid\nlstat l uid,gid')) {
      expect(seen).toEqual(['33 55', '33 33', '1 2']);
    }
  },

  utimes: async (scene) => {
    await scene.same(`
      open 0 f w,creat 644
      write 0 x
      futimens 0 1000000000.1 1100000000.123456789
      fstat 0 mtime
      close 0
      stat f mtime
      utimens f omit 1200000000.5
      stat f mtime
      utimens f 1300000000.0 omit
      stat f mtime
      utimens f omit -5.0
      stat f mtime
      utimens f omit 1200000000.987654321
      symlink f l
      utimens l omit 1400000000.25
      lstat l mtime
      stat f mtime
    `);
    for (const seen of await everywhere(scene, 'stat f mtime\nlstat l mtime')) {
      expect(seen).toEqual(['1200000000.987654321', '1400000000.000000025']);
    }
  },

  'write-mtime': async (scene) => {
    const path = join(scene.dir, 'f');
    await shell(scene.dir, 'echo one > f');
    await utimes(path, 1_000_000_000, 1_000_000_000);
    await shell(scene.dir, 'echo two >> f; [ f -nt /proc/1 ] || true; test "$(stat -c %Y f)" -gt 1000000000');
    const [here] = await scene.calls('stat f mtime');
    expect(await scene.callsThere('stat f mtime')).toEqual([here]);
  },

  atime: async (scene) => {
    const script =
      'open 0 f rw,creat 644\nwrite 0 x\nutimens f 1000000000.0 1000000000.0\npread 0 0 1\nclose 0\nstat f atime';
    expect((await scene.calls(script)).at(-1)).toBe('1000000000.000000000');
  },

  'directory-mtime': async (scene) => {
    await scene.calls('mkdir d 755\nutimens d omit 1000000000.0');
    for (const seen of await everywhere(scene, 'stat d mtime')) expect(seen).toEqual(['1000000000.000000000']);
  },

  'directory-mtime-entries': async (scene) => {
    await scene.calls('mkdir d 755\nutimens d omit 1000000000.0\nopen 0 d/f w,creat 644\nclose 0');
    expect(await scene.calls('stat d mtime')).toEqual(['1000000000.000000000']);
  },

  owner: async (scene) => {
    await scene.same(`
      chmod . 777
      become ${NOBODY}
      open 0 f w,creat 644
      close 0
      mkdir d 755
      symlink x l
      stat f uid,gid
      stat d uid,gid
      lstat l uid,gid
    `);
  },

  'setgid-directory': async (scene) => {
    await scene.same(`
      mkdir d 755
      chown d 0 77
      chmod d 2775
      open 0 d/f w,creat 644
      stat d/f gid,mode
      mkdir d/e 755
      stat d/e gid,mode
      symlink x d/l
      lstat d/l gid
      mknod d/g file 644
      stat d/g gid
    `);
  },

  permissions: async (scene) => {
    await scene.same(`
      open 0 secret w,creat 600
      close 0
      open 0 public w,creat 644
      close 0
      mkdir private 700
      mkdir sticky 755
      chmod sticky 1777
      open 0 sticky/root w,creat 666
      close 0
      become ${NOBODY}
      open 0 secret r 0
      open 0 public r 0
      open 1 public w 0
      chmod public 777
      chown public ${NOBODY} ${NOBODY}
      open 1 new w,creat 644
      unlink public
      rename public other
      ls private
      unlink sticky/root
      access secret r
      access public r
      utimens public now now
      truncate public 0
      setxattr public user.a b none
    `);
  },

  'kill-privileges': async (scene) => {
    await scene.same(`
      open 0 f w,creat 644
      write 0 program
      close 0
      open 0 g w,creat 644
      write 0 program
      close 0
      chmod f 6777
      chmod g 6777
      become ${NOBODY}
      open 0 f w 0
      write 0 x
      close 0
      stat f mode
      truncate g 1
      stat g mode
    `);
  },

  xattrs: async (scene) => {
    await scene.same(`
      open 0 f w,creat 644
      close 0
      setxattr f user.a one none
      setxattr f user.b two create
      getxattr f user.a
      listxattr f
      setxattr f user.a again create
      setxattr f user.a again replace
      setxattr f user.c x replace
      getxattr f user.a
      removexattr f user.b
      removexattr f user.b
      getxattr f user.b
      listxattr f
      mkdir d 755
      setxattr d user.dir yes none
      getxattr d user.dir
      getxattr f trusted.none
    `);
    for (const seen of await everywhere(scene, 'getxattr f user.a\ngetxattr d user.dir')) {
      expect(seen).toEqual(['"again"', '"yes"']);
    }
  },

  'xattr-limits': async (scene) => {
    const large = 'x'.repeat(3000);
    expect(
      await scene.calls(`
        open 0 f w,creat 644
        close 0
        setxattr f user.large ${large} none
        getxattr f user.large
        setxattr f security.tsfs x none
        setxattr f system.tsfs x none
        getxattr f security.capability
      `),
    ).toEqual(['0', '0', 'ENOSPC', 'ENODATA', 'EOPNOTSUPP', 'EOPNOTSUPP', 'ENODATA']);
  },

  'no-metadata': async (scene) => {
    await scene.putElsewhere({ 'implied/f': 'content' }, { contentType: 'image/png' });
    const { lastModifiedMs } = await scene.bucket.head(scene.key('implied/f'));
    const mtime = `${lastModifiedMs / 1000}.000000000`;
    const call = 'stat implied type,mode,uid,gid\nstat implied/f type,mode,uid,gid,mtime';
    for (const seen of [await scene.calls(call), await scene.callsThere(call)]) {
      expect(seen).toEqual(['directory 0755 0 0', `file 0644 0 0 ${mtime}`]);
    }
    await scene.calls('chmod implied/f 600');
    expect((await scene.bucket.head(scene.key('implied/f'))).contentType).toBe('image/png');
    expect(await scene.calls('stat implied/f mode,mtime')).toEqual([`0600 ${mtime}`]);
  },

  'senseless-metadata': async (scene) => {
    const metadata = { mode: String(0o060666), uid: '-1', gid: '99999999999', mtime: '253402300800', ctime: 'now' };
    await scene.putElsewhere({ f: 'content' }, { metadata });
    const { lastModifiedMs } = await scene.bucket.head(scene.key('f'));
    const expected = `file 0644 0 0 7 ${lastModifiedMs / 1000}.000000000`;
    expect(await scene.calls('stat f type,mode,uid,gid,size,mtime')).toEqual([expected]);
  },

  'content-type': async (scene) => {
    await shell(
      scene.dir,
      'echo x > a.jpg; echo x > b.css.bak; echo x > c; mv a.jpg d.png; echo x > e.tmp; mv e.tmp e.webp',
    );
    const types = ['d.png', 'b.css.bak', 'c', 'e.webp'].map(async (name) => {
      return (await scene.bucket.head(scene.key(name))).contentType;
    });
    expect(await Promise.all(types)).toEqual(['image/png', 'text/css', 'application/octet-stream', 'image/webp']);
  },

  's3fs-metadata': async (scene) => {
    await scene.calls('open 0 f w,creat 640\nclose 0\nchown f 33 44\nutimens f omit 1200000000.123456789');
    const { metadata } = await scene.bucket.head(scene.key('f'));
    expect(metadata).toMatchObject({ mode: String(0o100640), uid: '33', gid: '44', mtime: '1200000000.123456789' });
    const metadataOfOthers = { mode: '33152', uid: '1', gid: '2', mtime: '1300000000', own: 'kept' };
    await scene.putElsewhere({ g: 'x' }, { metadata: metadataOfOthers });
    expect(await scene.calls('stat g mode,uid,gid,mtime')).toEqual(['0600 1 2 1300000000.000000000']);
    await scene.calls('chmod g 644');
    expect((await scene.bucket.head(scene.key('g'))).metadata).toMatchObject({ own: 'kept', mtime: '1300000000' });
  },

  'inode-number': async (scene) => {
    await scene.calls('open 0 f w,creat 644\nwrite 0 x\nclose 0');
    const [first, second, third] = await everywhere(scene, 'stat f ino');
    expect(second).toEqual(first);
    expect(third).toEqual(first);
  },

  'link-count': async (scene) => {
    expect(
      (await scene.calls('mkdir d 755\nmkdir d/e 755\nopen 0 f w,creat 644\nstat d nlink\nstat f nlink')).slice(3),
    ).toEqual(['1', '1']);
  },

  statfs: async (scene) => {
    await scene.same('statfs .');
  },
};
