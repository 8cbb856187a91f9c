/** Cache files that the disk, a crash of the machine or somebody has damaged: what programs read is right all the same. */
import { randomBytes } from 'node:crypto';
import { open, readdir, readFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { MountStatus } from '../../src/mount/status.ts';
import { eventually, newBucket, startServer, type TestServer } from './harness.ts';
import { runProgram } from './syscalls.ts';

const CLI = join(import.meta.dirname, '../../src/cli/main.ts');
const SMALL_BYTES = 40_000;
const LARGE_BYTES = 3 * 2 ** 20;
const CACHED_LIMIT_MS = 10_000;

async function damagedBlocks(server: TestServer): Promise<number> {
  const { output } = await runProgram(process.execPath, [CLI, 'status', server.dir, '--json']);
  return (JSON.parse(output) as MountStatus).cache.damagedBlocks;
}

async function cacheFiles(server: TestServer): Promise<string[]> {
  const entries = await readdir(server.cacheDirectory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** Programs have the bytes before the disk has them. */
function newFile(server: TestServer, known: ReadonlySet<string>): Promise<string> {
  return eventually(async () => {
    const [path] = (await cacheFiles(server)).filter((file) => !known.has(file));
    if (path === undefined) throw new Error('nothing was cached');
    return path;
  }, CACHED_LIMIT_MS);
}

async function flip(path: string): Promise<void> {
  const file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, SMALL_BYTES / 2);
  await file.write(Buffer.of((byte[0] ?? 0) ^ 1), 0, 1, SMALL_BYTES / 2);
  await file.close();
}

/** The size stays, the bytes are gone: what a crash of the machine leaves of data that had not reached the disk. */
async function empty(path: string): Promise<void> {
  const file = await open(path, 'r+');
  const { size } = await file.stat();
  await file.close();
  await truncate(path, 0);
  await truncate(path, size);
}

const DAMAGES = [flip, empty, (path: string) => truncate(path, 1000)];

test('flipped bits, holes and lost ends are found before native threads answer for the file', async () => {
  const contents = new Map<string, Buffer>();
  const damages: (() => Promise<void>)[] = [];
  const known = new Set<string>();
  const bucket = await newBucket();
  for (const index of DAMAGES.keys()) {
    for (const sizeBytes of [SMALL_BYTES, LARGE_BYTES]) contents.set(`${index}-${sizeBytes}`, randomBytes(sizeBytes));
  }
  for (const [name, content] of contents) await bucket.put(name, content);
  const server = await startServer({ bucket });
  for (const [name, content] of contents) {
    expect((await readFile(server.path(name))).equals(content)).toBe(true);
    const path = await newFile(server, known);
    known.add(path);
    const damage = DAMAGES[Number(name[0])];
    damages.push(async () => damage?.(path));
  }
  await server.umount();
  for (const damage of damages) await damage();
  await server.mount();
  for (let round = 0; round < 4; round += 1) {
    for (const [name, content] of contents) expect((await readFile(server.path(name))).equals(content)).toBe(true);
  }
  expect(await damagedBlocks(server)).toBeGreaterThanOrEqual(contents.size);
  expect(server.log.match(/a cached file is damaged/g)?.length).toBe(contents.size);
});
