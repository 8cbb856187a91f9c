/** Large files that are all in the cache are read by the kernel itself; whatever is done to them meanwhile, readers see what a local disk would show. */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm, stat, truncate, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import type { MountStatus } from '../../src/mount/status.ts';
import type { TestBucket } from './bucket.ts';
import { eventually, newBucket, startServer, type TestServer } from './harness.ts';
import { runProgram } from './syscalls.ts';

const CLI = join(import.meta.dirname, '../../src/cli/main.ts');
const SIZE_BYTES = 9_000_000;
const LIMIT_MS = 30_000;
/** As large. */
const OTHERS = ['a', 'b', 'c', 'd'];
/** Whether the run tests mounts without it. */
const isOff = (process.env.TSFS_TEST_OPTIONS ?? '').includes('no_passthrough');

const handles: FileHandle[] = [];
afterEach(async () => {
  for (const handle of handles.splice(0)) await handle.close();
});

async function opened(path: string, flags: string | number): Promise<FileHandle> {
  const handle = await open(path, flags);
  handles.push(handle);
  return handle;
}

async function closed(handle: FileHandle): Promise<void> {
  handles.splice(handles.indexOf(handle), 1);
  await handle.close();
}

async function statusOf(server: TestServer): Promise<MountStatus> {
  return JSON.parse((await runProgram(process.execPath, [CLI, 'status', server.dir, '--json'])).output) as MountStatus;
}

async function passedNodes(server: TestServer): Promise<number> {
  return (await statusOf(server)).kernel.passthrough.nodes;
}

async function bytesOf(handle: FileHandle, sizeBytes = 2 * SIZE_BYTES): Promise<Buffer> {
  const buffer = Buffer.alloc(sizeBytes);
  let length = 0;
  for (;;) {
    const { bytesRead } = await handle.read(buffer, length, buffer.length - length, length);
    if (bytesRead === 0) return buffer.subarray(0, length);
    length += bytesRead;
  }
}

interface Scene {
  readonly bucket: TestBucket;
  readonly server: TestServer;
  readonly path: string;
  readonly content: Buffer;
}

/** A file that is all in the cache. */
async function prepare(options: readonly string[]): Promise<Scene> {
  const bucket = await newBucket();
  const content = randomBytes(SIZE_BYTES);
  await bucket.put('large', content);
  for (const key of OTHERS) await bucket.put(key, content);
  const server = await startServer({ bucket, options });
  const path = server.path('large');
  const cold = await opened(path, 'r');
  expect((await bytesOf(cold)).equals(content)).toBe(true);
  await closed(cold);
  if (!isOff && !options.includes('no_passthrough')) await passing(server, path);
  return { bucket, server, path, content };
}

/** The release of the open before may still be under way, which excludes it. */
async function passing(server: TestServer, path: string): Promise<void> {
  await eventually(async () => {
    const handle = await opened(path, 'r');
    const nodes = await passedNodes(server);
    await closed(handle);
    expect(nodes).toBe(1);
  }, LIMIT_MS);
}

async function expectContent(handle: FileHandle, content: Buffer): Promise<void> {
  expect((await bytesOf(handle)).equals(content)).toBe(true);
}

function changed(content: Buffer, offset: number, text: string): Buffer {
  const copy = Buffer.alloc(Math.max(content.length, offset + text.length));
  content.copy(copy);
  copy.write(text, offset);
  return copy;
}

test.skipIf(isOff)('what is large and all there is read so, and given back at the end', async () => {
  const { server, path, content, bucket } = await prepare([]);
  await bucket.put('small', 'small');
  const one = await opened(path, 'r');
  const two = await opened(path, 'r');
  const small = await opened(server.path('small'), 'r');
  expect(await passedNodes(server)).toBe(1);
  const { requests } = (await statusOf(server)).kernel.counters;
  await expectContent(one, content);
  await expectContent(two, content);
  expect((await statusOf(server)).kernel.counters.requests - requests).toBeLessThan(10);
  expect((await bytesOf(small)).toString()).toBe('small');
  await closed(one);
  await closed(two);
  await eventually(async () => expect(await passedNodes(server)).toBe(0), LIMIT_MS);
});

test('a small file in use costs an open and a release, and nothing for its times', async () => {
  const { server, bucket } = await prepare([]);
  await bucket.put('small', randomBytes(40_000));
  const cycle = async () => {
    const handle = await open(server.path('small'), 'r');
    await handle.stat();
    await bytesOf(handle, 50_000);
    await handle.close();
  };
  for (let i = 0; i < 5; i += 1) await cycle();
  const { requests } = (await statusOf(server)).kernel.counters;
  for (let i = 0; i < 100; i += 1) await cycle();
  expect((await statusOf(server)).kernel.counters.requests - requests).toBeLessThan(220);
});

describe.each([{ options: [] }, { options: ['no_passthrough'] }])('with options $options', ({ options }) => {
  test('a reader before a writer', async () => {
    const { bucket, path, content } = await prepare(options);
    const reader = await opened(path, 'r');
    await expectContent(reader, content);
    const writer = await opened(path, 'r+');
    await expectContent(writer, content);
    await writer.write('changed', 1_000_000);
    const middle = changed(content, 1_000_000, 'changed');
    await expectContent(reader, middle);
    await writer.write('appended', SIZE_BYTES);
    const all = changed(middle, SIZE_BYTES, 'appended');
    await expectContent(reader, all);
    expect((await reader.stat()).size).toBe(all.length);
    await closed(writer);
    expect((await bucket.bytes('large')).equals(all)).toBe(true);
    const late = await opened(path, 'r');
    await expectContent(late, all);
    await closed(reader);
    await closed(late);
    await expectContent(await opened(path, 'r'), all);
    const again = await opened(path, 'r+');
    await again.write('once more', 5);
    await closed(again);
    expect((await bucket.bytes('large')).equals(changed(all, 5, 'once more'))).toBe(true);
  });

  test('a writer before a reader', async () => {
    const { bucket, path, content } = await prepare(options);
    const writer = await opened(path, 'r+');
    const reader = await opened(path, 'r');
    await expectContent(reader, content);
    await writer.write('changed', 77);
    await expectContent(reader, changed(content, 77, 'changed'));
    await closed(writer);
    await expectContent(reader, changed(content, 77, 'changed'));
    expect((await bucket.bytes('large')).equals(changed(content, 77, 'changed'))).toBe(true);

    const emptying = await opened(path, constants.O_WRONLY | constants.O_TRUNC);
    await expectContent(reader, Buffer.alloc(0));
    await emptying.write('new', 0);
    await expectContent(reader, Buffer.from('new'));
    await closed(emptying);
    expect(await bucket.text('large')).toBe('new');
  });

  test('two writers, and a reader who was there before', async () => {
    const { bucket, path, content } = await prepare(options);
    const reader = await opened(path, 'r');
    const one = await opened(path, 'r+');
    const two = await opened(path, 'r+');
    await one.write('one', 10);
    await two.write('two', 20);
    const expected = changed(changed(content, 10, 'one'), 20, 'two');
    for (const handle of [reader, one, two]) await expectContent(handle, expected);
    await closed(one);
    await two.write('last', 2_500_000);
    await closed(two);
    const last = changed(expected, 2_500_000, 'last');
    await expectContent(reader, last);
    expect((await bucket.bytes('large')).equals(last)).toBe(true);
  });

  test('a writer who changes nothing', async () => {
    const { server, path, content } = await prepare(options);
    const reader = await opened(path, 'r');
    server.resetRequests();
    await closed(await opened(path, 'r+'));
    expect(server.requests()).toEqual({});
    await expectContent(reader, content);
  });

  test('rename, replacement and unlink in between', async () => {
    const { bucket, server, path, content } = await prepare(options);
    const reader = await opened(path, 'r');
    const moved = server.path('moved');
    await rename(path, moved);
    await expectContent(reader, content);
    const writer = await opened(moved, 'r+');
    await writer.write('changed', 1000);
    await closed(writer);
    const expected = changed(content, 1000, 'changed');
    await expectContent(reader, expected);
    expect((await bucket.bytes('moved')).equals(expected)).toBe(true);

    const other = await opened(server.path('other'), 'w');
    await other.write('other', 0);
    await closed(other);
    await rename(server.path('other'), moved);
    await expectContent(reader, expected);
    expect((await bytesOf(await opened(moved, 'r'))).toString()).toBe('other');

    const second = await opened(moved, 'r');
    await unlink(moved);
    expect((await bytesOf(second)).toString()).toBe('other');
    await expectContent(reader, expected);
    expect(await bucket.keys()).toEqual(OTHERS);
  });

  test('a file that is cut while it is read', async () => {
    const { bucket, path, content } = await prepare(options);
    const reader = await opened(path, 'r');
    await truncate(path, 2_000_000);
    await expectContent(reader, content.subarray(0, 2_000_000));
    expect((await stat(path)).size).toBe(2_000_000);
    expect((await bucket.bytes('large')).equals(content.subarray(0, 2_000_000))).toBe(true);
  });

  test('another worker goes on', async () => {
    const { bucket, server, path, content } = await prepare(options);
    const reader = await opened(path, 'r');
    await expectContent(reader, content);
    process.kill((await server.workerPid()) as number, 'SIGKILL');
    await expectContent(reader, content);
    const writer = await opened(path, 'r+');
    await writer.write('changed', 1000);
    const expected = changed(content, 1000, 'changed');
    await expectContent(reader, expected);
    process.kill((await server.workerPid()) as number, 'SIGKILL');
    await writer.write('again', 2000);
    await closed(writer);
    await expectContent(reader, changed(expected, 2000, 'again'));
    expect((await bucket.bytes('large')).equals(changed(expected, 2000, 'again'))).toBe(true);
  });

  test('rm -r of the cache while it is read', async () => {
    const { bucket, server, path, content } = await prepare(options);
    const reader = await opened(path, 'r');
    await expectContent(reader, content);
    await rm(server.cacheDirectory, { recursive: true });
    await expectContent(reader, content);
    await expectContent(await opened(path, 'r'), content);
    const writer = await opened(path, 'r+');
    await writer.write('changed', 1000);
    const expected = changed(content, 1000, 'changed');
    await expectContent(writer, expected);
    await expectContent(await opened(path, 'r'), expected);
    process.kill((await server.workerPid()) as number, 'SIGKILL');
    const late = await opened(path, 'r+');
    await late.write('late', 3000);
    await closed(late);
    await closed(writer);
    expect((await bucket.bytes('large')).equals(changed(expected, 3000, 'late'))).toBe(true);
  });

  test('what is read is not evicted', async () => {
    const { bucket, server, path, content } = await prepare([...options, 'cache_size=24M']);
    const reader = await opened(path, 'r');
    for (const key of OTHERS) await expectContent(await opened(server.path(key), 'r'), content);
    await expectContent(reader, content);
    const writer = await opened(path, 'r+');
    await writer.write('changed', 0);
    await expectContent(reader, changed(content, 0, 'changed'));
    await closed(writer);
    expect((await bucket.bytes('large')).equals(changed(content, 0, 'changed'))).toBe(true);
  });
});
