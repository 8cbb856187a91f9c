/** Local disks that are full: small ones in memory, which only root can mount. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  type FileHandle,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { MountStatus } from '../../src/mount/status.ts';
import type { Effect } from '../support/faults.ts';
import type { TestBucket } from './bucket.ts';
import { eventually, newBucket, startServer, type TestServer } from './harness.ts';
import { runProgram } from './syscalls.ts';

const CLI = join(import.meta.dirname, '../../src/cli/main.ts');
const MIB = 2 ** 20;
const ARRIVAL_LIMIT_MS = 60_000;
const isRoot = process.getuid?.() === 0;
const UNAVAILABLE: Effect = { type: 'status', status: 500, code: 'InternalError' };
/** Names that failed once may be gone or there. */
const FAILED = /^(ENOSPC|ENOENT|EEXIST|EIO)$/;
const NO_ROOM = expect.objectContaining({ code: 'ENOSPC' });

async function smallDisk(options: string): Promise<string> {
  const disk = await mkdtemp(join(tmpdir(), 'tsfs-disk-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', disk]);
  onTestFinished(async () => {
    execFileSync('umount', ['-l', disk]);
    await rm(disk, { recursive: true });
  });
  return disk;
}

/** Takes all the room there is; returns what gives it back. */
async function fill(disk: string): Promise<() => Promise<void>> {
  const path = join(disk, 'ballast');
  const file = await open(path, 'w');
  await writeUntilFull(file);
  await file.close();
  return () => rm(path);
}

/** Returns how much there was room for. */
async function writeUntilFull(file: FileHandle): Promise<number> {
  const piece = randomBytes(64 * 1024);
  let written = 0;
  try {
    for (;;) written += (await file.write(piece, 0, piece.length, written)).bytesWritten;
  } catch (error) {
    expect(error).toEqual(NO_ROOM);
  }
  return written;
}

/** As a large listing would. Returns what gives it back. */
async function useUpReserve(disk: string): Promise<() => void> {
  const state = (await readdir(disk)).find((name) => name !== 'ballast') as string;
  const db = new Database(join(disk, state, 'index.db'), { timeout: 5000 });
  const insert = db.prepare('INSERT INTO reserve (bytes) VALUES (zeroblob(20000))');
  expect(() => {
    for (;;) insert.run();
  }).toThrow(/full/);
  return () => {
    db.exec('DELETE FROM reserve');
    db.close();
  };
}

async function statusOf(server: TestServer): Promise<MountStatus> {
  const { output } = await runProgram(process.execPath, [CLI, 'status', server.dir, '--json']);
  return JSON.parse(output) as MountStatus;
}

async function pendingOf(server: TestServer): Promise<string> {
  return (await runProgram('sh', ['-c', '"$@"; true', 'sh', process.execPath, CLI, 'pending', server.dir])).output;
}

async function bucketOf(files: number): Promise<TestBucket> {
  const bucket = await newBucket();
  for (let i = 0; i < files; i += 1) await bucket.put(`old${i}`, `content of ${i}`);
  return bucket;
}

describe.runIf(isRoot)('the disk of the state is full', () => {
  test.each(['passthrough', 'passthrough=0'])('with %s: reading goes on, writing has no room', async (how) => {
    const disk = await smallDisk('size=24m');
    const server = await startServer({ bucket: await bucketOf(30), options: [`state_dir=${disk}`, how] });
    await writeFile(server.path('acknowledged'), 'content');
    await readFile(server.path('old0'));
    const file = await open(server.path('growing'), 'w');
    const written = await writeUntilFull(file);
    expect(written).toBeGreaterThan(MIB);
    // Names that are new here, too: the index has a reserve.
    for (let i = 0; i < 30; i += 1) expect(await readFile(server.path(`old${i}`), 'utf8')).toBe(`content of ${i}`);
    expect((await readdir(server.dir)).length).toBe(32);
    await expect(writeFile(server.path('more'), randomBytes(MIB))).rejects.toEqual(NO_ROOM);
    await unlink(server.path('old29'));
    // What had room is in the bucket when it is closed.
    await file.close();
    expect((await server.bucket.head('growing')).sizeBytes).toBe(written);
    await unlink(server.path('growing'));
    await eventually(async () => writeFile(server.path('later'), randomBytes(MIB)), ARRIVAL_LIMIT_MS);
    expect((await server.bucket.head('later')).sizeBytes).toBe(MIB);
    expect(await server.bucket.text('acknowledged')).toBe('content');
    expect((await statusOf(server)).guardian.restarts).toBe(0);
    await server.umount();
  });

  test('when the index has used up its reserve too, calls fail, and nothing else does', async () => {
    const disk = await smallDisk('size=24m');
    const options = [`state_dir=${disk}`, 'stat_cache_expire=1'];
    const server = await startServer({ bucket: await bucketOf(30), options });
    await writeFile(server.path('acknowledged'), 'content');
    await readFile(server.path('old0'));
    const free = await fill(disk);
    const release = await useUpReserve(disk);
    const calls = [
      () => readFile(server.path('old0'), 'utf8'),
      () => readFile(server.path('old1'), 'utf8'),
      () => readdir(server.dir),
      () => writeFile(server.path('new'), 'content'),
      () => unlink(server.path('old2')),
      () => rename(server.path('old3'), server.path('renamed')),
      () => mkdir(server.path('directory')),
    ];
    for (let round = 0; round < 3; round += 1) {
      // Background work meets it too: renewals, listings, notes of the cache.
      await sleep(1200);
      for (const call of calls)
        await call().catch((error: NodeJS.ErrnoException) => expect(error.code).toMatch(FAILED));
    }
    await free();
    release();
    await eventually(() => writeFile(server.path('later'), 'content'), ARRIVAL_LIMIT_MS);
    expect(await server.bucket.text('acknowledged')).toBe('content');
    await eventually(async () => {
      const names = (await server.bucket.keys()).map((key) => key.replace(/\/$/, ''));
      expect((await readdir(server.dir)).sort()).toEqual(names.sort());
    }, ARRIVAL_LIMIT_MS);
    for (let i = 4; i < 30; i += 1) expect(await readFile(server.path(`old${i}`), 'utf8')).toBe(`content of ${i}`);
    expect((await statusOf(server)).guardian.restarts).toBe(0);
    expect(server.log).not.toContain('is damaged');
    await server.umount();
  });

  test('what was promised while the store was away is kept, named, and goes up when there is room', async () => {
    const disk = await smallDisk('size=24m');
    const options = [
      `state_dir=${disk}`,
      'durability=local',
      'retries=0',
      'connect_timeout=1',
      'stat_cache_expire=600',
    ];
    const server = await startServer({ bucket: await bucketOf(3), options });
    await readdir(server.dir);
    // A listing does not tell all that an upload has to repeat.
    for (let i = 0; i < 3; i += 1) await readFile(server.path(`old${i}`));
    await server.proxy.refuse();
    const contents = new Map<string, Buffer>();
    for (let i = 0; i < 3; i += 1) {
      contents.set(`old${i}`, randomBytes(2 * MIB));
      await writeFile(server.path(`old${i}`), contents.get(`old${i}`) as Buffer);
    }
    const free = await fill(disk);
    await expect(writeFile(server.path('old0'), randomBytes(4 * MIB))).rejects.toEqual(NO_ROOM);
    contents.delete('old0');
    const pending = await pendingOf(server);
    for (const name of contents.keys()) expect(pending).toContain(`/${name} `);
    // A crash of all processes, and the next start finds the disk full still.
    await server.kill();
    await server.proxy.accept();
    const release = server.proxy.addFault({ effect: UNAVAILABLE, operations: ['PUT'] });
    await server.mount();
    for (const [name, content] of contents) expect((await readFile(server.path(name))).equals(content)).toBe(true);
    await free();
    release();
    await eventually(async () => {
      for (const [name, content] of contents) expect((await server.bucket.bytes(name)).equals(content)).toBe(true);
      expect(await pendingOf(server)).toContain('The bucket has everything.');
    }, ARRIVAL_LIMIT_MS);
    await server.umount();
  });

  test('no room for a further file: creating fails, and leaves no name', async () => {
    const disk = await smallDisk('size=64m,nr_inodes=24');
    const server = await startServer({ bucket: await bucketOf(1), options: [`state_dir=${disk}`] });
    const made: FileHandle[] = [];
    const failed = await (async () => {
      for (let i = 0; i < 24; i += 1) {
        try {
          made.push(await open(server.path(`f${i}`), 'wx'));
        } catch (error) {
          expect(error).toEqual(NO_ROOM);
          return i;
        }
      }
      throw new Error('there was always room');
    })();
    await expect(stat(server.path(`f${failed}`))).rejects.toMatchObject({ code: 'ENOENT' });
    for (const file of made) await file.close();
    expect((await readdir(server.dir)).length).toBe(1 + made.length);
    await eventually(() => writeFile(server.path(`f${failed}`), 'content', { flag: 'wx' }), ARRIVAL_LIMIT_MS);
    await eventually(async () => expect((await server.bucket.keys()).length).toBe(2 + made.length), ARRIVAL_LIMIT_MS);
    await server.umount();
  });
});

describe.runIf(isRoot)('the disk of the cache is full', () => {
  test('reads go to the store, and are kept again once there is room', async () => {
    const disk = await smallDisk('size=4m');
    const bucket = await newBucket();
    const contents = new Map<string, Buffer>();
    for (const [name, sizeBytes] of [
      ['small', 100_000],
      ['medium', 3 * MIB],
      ['large', 8 * MIB],
    ] as const) {
      contents.set(name, randomBytes(sizeBytes));
      await bucket.put(name, contents.get(name) as Buffer);
    }
    const server = await startServer({ bucket, options: [`use_cache=${disk}`] });
    const readAll = async () => {
      for (const [name, content] of contents) expect((await readFile(server.path(name))).equals(content)).toBe(true);
    };
    const dropPages = () => writeFile('/proc/sys/vm/drop_caches', '1');
    const free = await fill(disk);
    await readAll();
    await dropPages();
    await readAll();
    expect((await statusOf(server)).cache).toMatchObject({ bytes: 0 });
    await writeFile(server.path('written'), 'content');
    expect(await readFile(server.path('written'), 'utf8')).toBe('content');
    expect(await bucket.text('written')).toBe('content');
    await free();
    let names = 0;
    await eventually(async () => {
      names += 1;
      await bucket.put(`later${names}`, randomBytes(100_000));
      await readFile(server.path(`later${names}`));
      expect((await statusOf(server)).cache.bytes).toBeGreaterThan(0);
    }, ARRIVAL_LIMIT_MS);
    await readAll();
    expect(server.log).toContain('the cache cannot keep blocks now');
    expect(server.log).not.toMatch(/"level":(50|60)/);
    await server.umount();
  });
});
