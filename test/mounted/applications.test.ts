/** What people do on a mount, with the programs that they do it with. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startServer, type TestServer } from './harness.ts';
import { shell } from './syscalls.ts';

let server: TestServer;
let local: string;

beforeAll(async () => {
  server = await startServer({ options: ['allow_other'] });
  local = await mkdtemp(join(tmpdir(), 'tsfs-tree-'));
  await shell(
    local,
    `mkdir -p tree/sub/deep tree/empty
     for i in $(seq 1 40); do echo "line $i" > tree/sub/file$i.txt; done
     head -c 3000000 /dev/urandom > tree/sub/deep/large.bin
     printf '#!/bin/sh\\necho run\\n' > tree/run.sh; chmod 755 tree/run.sh; chmod 600 tree/sub/file7.txt
     ln -s sub/file1.txt tree/link; ln -s missing tree/dangling
     touch -d @1234567890 tree/sub/file3.txt tree/sub/deep`,
  );
});

afterAll(() => rm(local, { recursive: true }));

/** Everything that cp -a, tar and rsync -a promise to keep, but for times of directories that they fill. */
const DESCRIBE = `find . -mindepth 1 -type d -printf '%p %y %m %U %G\\n' -o -printf '%p %y %m %U %G %s %l %T@\\n' | sort
  find . -type f -exec md5sum {} + | sort -k 2`;

test('cp -a', async () => {
  await shell(local, `cp -a tree "${server.path('cp')}"`);
  expect(await shell(server.path('cp'), DESCRIBE)).toBe(await shell(join(local, 'tree'), DESCRIBE));
  await server.remount();
  expect(await shell(server.path('cp'), DESCRIBE)).toBe(await shell(join(local, 'tree'), DESCRIBE));
  await shell(local, `diff -r tree "${server.path('cp')}" 2>&1 | grep -v dangling || true`);
});

test('cp -r of a tree on the mount, mv and rm -r', async () => {
  await shell(
    server.dir,
    `cp -r "${local}/tree" one; cp -r one two; diff -r --no-dereference one two; mv two three; rm -r one`,
  );
  expect(await shell(server.dir, 'ls -d one two three 2>/dev/null || true')).toBe('three\n');
  await shell(server.dir, `diff -r --no-dereference "${local}/tree" three; rm -r three; test ! -e three`);
});

test('tar x and tar c', async () => {
  await shell(local, 'tar --format=posix -cf tree.tar tree');
  await shell(server.dir, `mkdir tar; tar -xpf "${local}/tree.tar" -C tar`);
  expect(await shell(server.path('tar/tree'), DESCRIBE)).toBe(await shell(join(local, 'tree'), DESCRIBE));
  await shell(
    server.dir,
    `tar -cf archive.tar tar; mkdir back; tar -xf archive.tar -C back; diff -r --no-dereference tar back/tar`,
  );
});

test('rsync -a and again', async () => {
  const isThere = await shell('/', 'command -v rsync || true');
  if (isThere === '') return;
  await shell(local, `rsync -a tree/ "${server.path('rsync')}/"`);
  expect(await shell(server.path('rsync'), DESCRIBE)).toBe(await shell(join(local, 'tree'), DESCRIBE));
  expect(await shell(local, `rsync -ai tree/ "${server.path('rsync')}/"`)).toBe('');
});

test('grep -r, find, du, wc', async () => {
  await shell(local, `cp -r tree "${server.path('search')}"`);
  for (const command of [
    'grep -rl "line 17" . | sort',
    'find . -name "*.txt" | sort',
    'cat sub/*.txt | wc',
    './run.sh',
  ]) {
    expect(await shell(server.path('search'), command)).toBe(await shell(join(local, 'tree'), command));
  }
});

test('a script is run, shell redirections append and replace', async () => {
  await shell(
    server.dir,
    'mkdir sh; cd sh; echo one > a; echo two >> a; (echo three; cat a) > b; sort b > c; mv c a; sed -i s/two/2/ a',
  );
  expect(await readFile(server.path('sh/a'), 'utf8')).toBe('one\nthree\n2\n');
  await shell(
    server.dir,
    'cd sh; exec 3>>log; for i in 1 2 3; do echo $i >&3; done; exec 3>&-; test "$(cat log | tr -d "\\n")" = 123',
  );
});

test('an upload as PHP and WordPress make it', async () => {
  // move_uploaded_file across file systems copies and unlinks; then chmod, thumbnails beside it, and a check that all are there.
  await shell(
    server.dir,
    `tmp="${local}/upload.tmp"; head -c 200000 /dev/urandom > "$tmp"
     mkdir -p wp/2024/05; cd wp/2024/05; test ! -e photo.jpg
     cp "$tmp" photo.jpg; chmod 644 photo.jpg
     for size in 150x150 300x200 1024x683; do head -c 30000 photo.jpg > photo-$size.jpg; chmod 644 photo-$size.jpg; done
     cmp photo.jpg "$tmp"; test "$(ls | wc -l)" = 4; rm "$tmp"`,
  );
  expect(await server.bucket.keys('wp/2024/05/')).toEqual(
    ['', 'photo-1024x683.jpg', 'photo-150x150.jpg', 'photo-300x200.jpg', 'photo.jpg'].map(
      (name) => `wp/2024/05/${name}`,
    ),
  );
  expect((await server.bucket.head('wp/2024/05/photo.jpg')).contentType).toBe('image/jpeg');
});

test('an editor that saves by rename keeps the mode', async () => {
  await shell(
    server.dir,
    'mkdir ed; cd ed; echo old > conf; chmod 640 conf; cp -p conf conf.new; echo new >> conf.new; mv conf.new conf',
  );
  expect(await shell(server.path('ed'), 'stat -c %a conf; cat conf; ls')).toBe('640\nold\nnew\nconf\n');
});
