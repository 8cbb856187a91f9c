import { createHash } from 'node:crypto';
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Digester } from '../../src/transfer/digester.ts';
import { pattern } from '../cache/support.ts';

const KIB = 1024;

let directory: string;
let file: FileHandle;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tsfs-digester-test-'));
  file = await open(join(directory, 'file'), 'w+');
});

afterEach(async () => {
  await file.close();
  await rm(directory, { recursive: true });
});

const md5 = (bytes: Uint8Array) => createHash('md5').update(bytes).digest('hex');

test('digests of ranges, and their bytes', async () => {
  const bytes = pattern(700 * KIB);
  await file.write(bytes);
  const digester = new Digester();
  const ranges = [
    { offset: 0, lengthBytes: bytes.length },
    { offset: 5, lengthBytes: 300 * KIB },
    { offset: 700 * KIB - 1, lengthBytes: 1 },
    { offset: 100, lengthBytes: 0 },
  ];
  const digests = ranges.map(({ offset, lengthBytes }) => md5(bytes.subarray(offset, offset + lengthBytes)));
  const wanted = ranges.map((range) => ({ ...range, fd: file.fd }));
  expect(await Promise.all(wanted.map((range) => digester.digest([range])))).toEqual(digests.map((digest) => [digest]));
  const memory = ranges.map(() => new SharedArrayBuffer(bytes.length));
  const filled = wanted.map((range, i) => (i === 1 ? range : { ...range, memory: memory[i] as SharedArrayBuffer }));
  expect(await digester.digest(filled)).toEqual(digests);
  expect(Buffer.from(memory[0] as SharedArrayBuffer).equals(bytes)).toBe(true);
  expect(Buffer.from(memory[2] as SharedArrayBuffer, 0, 1).equals(bytes.subarray(-1))).toBe(true);
});

test('a file that ends too early, and one that cannot be read, do not end the thread', async () => {
  await file.write(pattern(100));
  const digester = new Digester();
  const sound = { fd: file.fd, offset: 0, lengthBytes: 100 };
  const tooMuch = digester.digest([sound, { fd: file.fd, offset: 50, lengthBytes: 51 }]);
  await expect(tooMuch).rejects.toMatchObject({ kind: 'InvalidRequest' });
  const folder = await open(directory);
  const unreadable = digester.digest([{ fd: folder.fd, offset: 0, lengthBytes: 1 }]);
  await expect(unreadable).rejects.toMatchObject({ code: 'EISDIR' });
  await folder.close();
  expect(await digester.digest([{ fd: file.fd, offset: 0, lengthBytes: 0 }])).toEqual([md5(Buffer.alloc(0))]);
});
