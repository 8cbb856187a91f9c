import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { findMount } from '../../src/kernel/mount-table.ts';
import { type Setup, ToyMount } from './support/mounted.ts';

let toy: ToyMount;

afterEach(async () => {
  await toy.close();
});

async function mounted(setup: Setup = {}): Promise<ToyMount> {
  toy = await ToyMount.start(setup);
  return toy;
}

function python(code: string): string {
  return `python3 - <<'END'\n${code}\nEND`;
}

/** Each way in which content travels between kernel and file system. */
const WAYS: [string, Setup][] = [
  ['pieces of files', {}],
  ['bytes', { toy: { bytes: true, keepCache: false } }],
  ['pieces of files, later', { toy: { slow: true } }],
  ['passthrough', { toy: { backing: true } }],
  ['passthrough switched off', { toy: { backing: true }, passthrough: false }],
];

describe.each(WAYS)('content by %s', (_label, setup) => {
  test('is read back as it was written', async () => {
    await mounted(setup);
    await toy.output('head -c 5000000 /dev/urandom > ../plain; cp ../plain copy; cmp ../plain copy');
    await toy.output('dd if=../plain of=blocks bs=777 status=none; cmp ../plain blocks');
    await toy.output('dd if=../plain of=direct bs=1M iflag=fullblock oflag=direct conv=notrunc status=none || true');
    await toy.output('cat copy >> blocks; test $(stat -c %s blocks) = 10000000');
    await toy.output('truncate -s 10 copy; test "$(head -c 10 ../plain | sha1sum)" = "$(sha1sum < copy)"');
    await toy.output('echo short > copy; test "$(cat copy)" = short');
  });

  test('is right through mmap and after sparse and overlapping writes', async () => {
    await mounted(setup);
    const code = `
import mmap, os
fd = os.open('f', os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 3 << 20)
m = mmap.mmap(fd, 3 << 20)
m[5000:5005] = b'hello'
m[(2 << 20) + 1:(2 << 20) + 4] = b'end'
m.flush()
os.pwrite(fd, b'HE', 5000)
assert m[4999:5006] == b'\\0HEllo\\0', m[4999:5006]
m.close(); os.close(fd)
data = open('f', 'rb').read()
assert len(data) == 3 << 20 and data[5000:5005] == b'HEllo' and data[(2 << 20) + 1:(2 << 20) + 4] == b'end'
assert data.count(0) == len(data) - 8
private = mmap.mmap(os.open('f', os.O_RDONLY), 8192, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
private[0:3] = b'abc'
assert open('f', 'rb').read(3) == b'\\0\\0\\0'
out = os.open('g', os.O_WRONLY | os.O_CREAT)
src = os.open('f', os.O_RDONLY)
sent = 0
while sent < 3 << 20: sent += os.sendfile(out, src, sent, 1 << 20)
assert open('g', 'rb').read() == data
os.unlink('f')
assert os.pread(src, 5, 5000) == b'HEllo'
os.rename('g', 'h')
assert os.pread(os.open('h', os.O_RDONLY), 5, 5000) == b'HEllo'
a = os.open('h', os.O_WRONLY | os.O_APPEND)
os.write(a, b'tail')
assert os.stat('h').st_size == (3 << 20) + 4
`;
    expect(await toy.output(python(code))).toBe('');
  });
});

describe('names and attributes', () => {
  test('files, directories, symbolic links, renames', async () => {
    await mounted();
    await toy.output('mkdir d; echo 1 > d/a; ln -s a d/link; test "$(readlink d/link)" = a; test "$(cat d/link)" = 1');
    await toy.output('mv d/a d/b; test ! -e d/a; mv d/b top; rm d/link; rmdir d; test "$(ls)" = top');
    expect(await toy.run('ln top other')).toMatchObject({ status: 1 });
    expect((await toy.run('ln top other')).output).toContain('Operation not permitted');
    expect((await toy.run('mkfifo pipe')).output).toContain('Operation not permitted');
    expect((await toy.run('mkdir d; touch d/x; rmdir d')).output).toContain('Directory not empty');
    expect((await toy.run("touch $'\\xff'")).output).toContain('Invalid or incomplete multibyte');
    expect((await toy.run(`touch ${'é'.repeat(128)}`)).output).toContain('File name too long');
    await toy.output(`touch ${'é'.repeat(127)}; test -e ${'é'.repeat(127)}`);
  });

  test('RENAME_NOREPLACE and RENAME_EXCHANGE', async () => {
    await mounted();
    const code = `
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def rename(a, b, flags):
    return 0 if libc.renameat2(-100, a, -100, b, flags) == 0 else ctypes.get_errno()
open('a', 'w').close(); open('b', 'w').close()
print(rename(b'a', b'b', 1), rename(b'a', b'c', 1), rename(b'b', b'c', 2))
`;
    expect(await toy.output(python(code))).toBe('17 0 22');
  });

  test('mode, owner, times and the umask', async () => {
    await mounted();
    await toy.output('umask 027; touch f; mkdir d; test "$(stat -c %a f)" = 640; test "$(stat -c %a d)" = 750');
    await toy.output('chmod 4755 f; chown 33:34 f; test "$(stat -c %u:%g:%a f)" = 33:34:755');
    await toy.output('touch -d @-5.25 f; test "$(stat -c %.3Y f)" = -5.250 -o "$(stat -c %.3Y f)" = -4.750');
    await toy.output('touch -a -d @1700000000.123456789 f; test "$(stat -c %.9X f)" = 1700000000.123456789');
    await toy.output('touch f; test $(( $(date +%s) - $(stat -c %Y f) )) -lt 5');
  });

  test('extended attributes', async () => {
    await mounted();
    const code = `
import os
open('f', 'w').close()
os.setxattr('f', 'user.a', b'1' * 5000); os.setxattr('f', 'user.b', b'')
print(len(os.getxattr('f', 'user.a')), os.getxattr('f', 'user.b'), sorted(os.listxattr('f')))
for call in (lambda: os.getxattr('f', 'user.c'), lambda: os.setxattr('f', 'user.a', b'', os.XATTR_CREATE),
             lambda: os.setxattr('f', 'user.c', b'', os.XATTR_REPLACE), lambda: os.removexattr('f', 'user.c')):
    try: call()
    except OSError as error: print(error.errno)
os.removexattr('f', 'user.a'); print(os.listxattr('f'))
`;
    expect((await toy.output(python(code))).split('\n')).toEqual([
      "5000 b'' ['user.a', 'user.b']",
      ...['61', '17', '61', '61'],
      "['user.b']",
    ]);
  });

  test('a listing of many names is complete, and nothing is looked up again after it', async () => {
    await mounted();
    await toy.output('mkdir d; cd d; for i in $(seq 3000); do : > "a name of some length $i"; done');
    const before = (await toy.status()).calls.lookup;
    expect(await toy.output('ls -l d | tail -n +2 | wc -l')).toBe('3000');
    expect(await toy.output('ls -U d | sort -u | wc -l')).toBe('3000');
    expect((await toy.status()).calls.lookup).toBe(before);
  });

  test('references are given back', async () => {
    await mounted();
    await toy.output('for i in $(seq 300); do : > f$i; done; ls -l > /dev/null; rm f*');
    await expect.poll(async () => (await toy.status()).lookups, { timeout: 10_000 }).toBe(0);
  });

  test('statfs, fallocate, SEEK_DATA and SEEK_HOLE', async () => {
    await mounted();
    expect(await toy.output('stat -f -c "%S %b %a %c %d %l" .')).toBe('4096 1000 600 50 40 255');
    await toy.output('fallocate -l 5000 f; test $(stat -c %s f) = 5000');
    expect((await toy.run('fallocate -p -o 0 -l 4096 f')).status).not.toBe(0);
    const code = `
import os
fd = os.open('f', os.O_RDONLY)
print(os.lseek(fd, 10, os.SEEK_DATA), os.lseek(fd, 10, os.SEEK_HOLE))
try: os.lseek(fd, 6000, os.SEEK_DATA)
except OSError as error: print(error.errno)
`;
    expect(await toy.output(python(code))).toBe('10 5000\n6');
  });

  test('copy_file_range falls back to reading and writing; locks are those of the kernel', async () => {
    await mounted();
    await toy.output('head -c 300000 /dev/urandom > a; cp --reflink=auto a b; cmp a b');
    await toy.output('exec 9> lock; flock -n 9; ! flock -n lock true');
    const code = `
import fcntl
f = open('lock', 'w'); fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB); print('locked')
`;
    expect(await toy.output(python(code))).toBe('locked');
  });

  test('permissions are checked by mode', async () => {
    await mounted();
    const asNobody = 'setpriv --reuid 65534 --regid 65534 --clear-groups';
    await toy.output('echo secret > private; chmod 600 private; echo open > public; chmod 644 public');
    await toy.output(`chmod 755 ..; test "$(${asNobody} cat public)" = open`);
    expect((await toy.run(`${asNobody} cat private`)).output).toContain('Permission denied');
    expect((await toy.run(`${asNobody} touch new`)).output).toContain('Permission denied');
  });

  test('a read-only mount', async () => {
    await mounted({ mount: { readOnly: true } });
    expect((await toy.run('touch f')).output).toContain('Read-only file system');
  });
});

describe('what the kernel keeps', () => {
  test('hot files are stat-ed and read without a request; invalidation ends that', async () => {
    await mounted();
    await toy.output('echo one > f; cat f f; stat f');
    const before = (await toy.status()).calls;
    await toy.output('cat f; stat f; test ! -e missing; test ! -e missing');
    const hot = (await toy.status()).calls;
    expect({ read: hot.read, lookup: hot.lookup, flush: hot.flush }).toEqual({
      read: before.read,
      lookup: (before.lookup ?? 0) + 1,
      flush: before.flush,
    });

    await toy.ask({ ask: 'renameBehind', from: 'f', to: 'g' });
    expect(await toy.output('cat f')).toBe('one');
    await toy.ask({ ask: 'invalidateEntry', name: 'f' });
    await expect.poll(async () => (await toy.run('cat f')).status).toBe(1);

    // Read first: a read that the file system answers makes the kernel ask for the attributes again.
    await toy.output('cat g; stat g');
    await toy.ask({ ask: 'setSizeBehind', path: 'g', sizeBytes: 2 });
    expect(await toy.output('cat g')).toBe('one');
    await toy.ask({ ask: 'invalidateNode', path: 'g', offset: 0 });
    await expect.poll(() => toy.output('cat g')).toBe('on');
    const { counters, notificationsDropped } = await toy.status();
    expect(counters).toMatchObject({ notificationsSent: 2, notificationsFailed: 0 });
    expect(notificationsDropped).toBe(0);
  });

  test('an invalidation that waits for a read in flight stops nobody else', async () => {
    await mounted();
    await toy.output('echo x > hang; echo y > other');
    await toy.ask({ ask: 'invalidateNode', path: 'hang', offset: 0 });
    await expect.poll(async () => (await toy.status()).counters.notificationsSent).toBe(1);
    const reader = toy.background('cat', ['hang']);
    await expect.poll(async () => (await toy.status()).calls.read).toBe(1);
    await toy.ask({ ask: 'invalidateNode', path: 'hang', offset: 0 });
    expect(await toy.output('cat other; ls')).toBe('y\nhang\nother');
    expect((await toy.status()).counters.notificationsSent).toBe(1);
    await toy.ask({ ask: 'letGo' });
    await expect.poll(async () => (await toy.status()).counters.notificationsSent).toBe(2);
    reader.kill('SIGKILL');
  });
});

describe('passthrough', () => {
  const setup: Setup = { toy: { backing: true } };

  test('reads and writes by the kernel alone, and gives the file back', async () => {
    await mounted(setup);
    await toy.output('head -c 3000000 /dev/urandom > ../plain; cp ../plain f; cmp ../plain f');
    const { calls, passthrough } = await toy.status();
    expect({ read: calls.read, write: calls.write }).toEqual({ read: undefined, write: undefined });
    await expect.poll(async () => (await toy.status()).passthrough).toEqual({ ...passthrough, state: 'on', nodes: 0 });
  });

  test('readers and writers in any order share one file', async () => {
    await mounted(setup);
    const code = `
import os
r = os.open('f', os.O_RDONLY | os.O_CREAT)
w = os.open('f', os.O_WRONLY)
a = os.open('f', os.O_WRONLY | os.O_APPEND)
os.write(w, b'one'); os.write(a, b'two')
assert os.pread(r, 100, 0) == b'onetwo'
os.close(w); os.close(a)
rw = os.open('f', os.O_RDWR | os.O_TRUNC)
assert os.pread(r, 100, 0) == b''
os.pwrite(rw, b'again', 0); os.close(r)
assert os.read(rw, 100) == b'again'
print(os.stat('f').st_size)
`;
    expect(await toy.output(python(code))).toBe('5');
    expect((await toy.status()).passthrough.state).toBe('on');
  });

  test('many opens and closes by several processes', async () => {
    await mounted(setup);
    const loop = 'for i in $(seq 100); do echo $i >> f; cat f > /dev/null || exit 1; done';
    await toy.output(`${[1, 2, 3].map(() => `(${loop}) &`).join(' ')} wait -n && wait -n && wait -n`);
    expect(await toy.output('wc -l < f')).toBe('300');
  });
});

describe('interrupts', () => {
  test('SIGKILL ends a reader that waits, and its operation', async () => {
    await mounted();
    await toy.output('echo x > hang');
    await toy.ask({ ask: 'invalidateNode', path: 'hang', offset: 0 });
    const reader = toy.background('dd', ['if=hang', 'bs=1', 'count=1', 'iflag=direct']);
    await expect.poll(async () => (await toy.status()).inFlight).toBeGreaterThan(0);
    const exit = new Promise((resolve) => reader.once('exit', (_code, signal) => resolve(signal)));
    reader.kill('SIGKILL');
    expect(await exit).toBe('SIGKILL');
    await expect.poll(async () => (await toy.status()).aborted).toBe(1);
    expect(await toy.output('echo alive > other; cat other')).toBe('alive');
  });

  test('a storm of killed processes leaves nothing behind', async () => {
    await mounted({ toy: { slow: true } });
    await toy.output('mkdir d; for i in $(seq 50); do echo $i > d/$i; done');
    const busy = 'while :; do cat d/* > /dev/null; ls -l d > /dev/null; done';
    await toy.output(`for i in $(seq 20); do timeout -s KILL 0.1 bash -c '${busy}' & done; wait; true`);
    expect(await toy.output('cat d/7')).toBe('7');
    await expect.poll(async () => (await toy.status()).inFlight).toBe(0);
    expect((await toy.status()).counters.malformed).toBe(0);
  });
});

describe('defects', () => {
  test('an operation that fails by a defect is EIO; the mount goes on', async () => {
    await mounted();
    await toy.output('echo x > defect; mv defect defective');
    expect((await toy.run('cat defective')).output).toContain('Input/output error');
    expect(await toy.output('ls')).toBe('defective');
  });
});

describe('the end', () => {
  test('umount(8): the session ends, the process too', async () => {
    await mounted();
    await toy.output('echo x > f');
    // -i: without the helper that an installed tsfs brings.
    await toy.output('cd /; umount -i "$OLDPWD"');
    expect(await toy.ended).toEqual({ ended: 'unmounted', destroyed: 1 });
    expect(await findMount(toy.path)).toBeUndefined();
  });

  test('unmounting a mount that is in use is refused, unless lazily', async () => {
    await mounted();
    await toy.output('echo x > never');
    const user = toy.background('sleep', ['30']);
    await expect(toy.ask({ ask: 'unmount', lazy: false })).rejects.toThrow('is in use');
    await toy.ask({ ask: 'unmount', lazy: true });
    await expect.poll(() => findMount(toy.path)).toBeUndefined();
    user.kill('SIGKILL');
    expect(await toy.ended).toMatchObject({ ended: 'unmounted' });
    await expect(toy.ask({ ask: 'unmount', lazy: false })).rejects.toThrow('is not a mount point');
  });

  test('unmounting while operations wait for ever', async () => {
    await mounted();
    await toy.output('echo x > never1; mv never1 never2');
    const user = toy.background('cat', ['never2']);
    await expect.poll(async () => (await toy.status()).inFlight).toBe(1);
    process.kill(toy.pid, 'SIGKILL');
    await new Promise((resolve) => user.once('exit', resolve));
    expect(user.exitCode).toBe(1);
  });

  test('a dead mount in the way is replaced', async () => {
    await mounted();
    process.kill(toy.pid, 'SIGKILL');
    await expect.poll(() => readFile(join(toy.path, 'x')).catch((error) => error.code)).toBe('ENOTCONN');
    const next = await ToyMount.start({ mount: { mountPoint: toy.path } });
    try {
      await writeFile(join(toy.path, 'x'), 'new');
      expect(await next.output(`cat '${toy.path}/x'`)).toBe('new');
    } finally {
      await next.close();
    }
    expect(await findMount(toy.path)).toBeUndefined();
  });

  test('mounting twice is refused', async () => {
    await mounted();
    const again = ToyMount.start({ mount: { mountPoint: toy.path } });
    await expect(again).rejects.toThrow('is already mounted');
    expect(await toy.output('echo x > f; cat f')).toBe('x');
  });
});
