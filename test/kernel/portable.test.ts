/** The portable driver's own work, without a kernel: values, paths, calls. */
import { constants } from 'node:os';
import { describe, expect, test } from 'vitest';
import type { NodeId } from '../../src/base/ids.ts';
import type { Caller, Entry, NegativeEntry, Operations } from '../../src/kernel/contract.ts';
import { PortableCalls } from '../../src/kernel/portable-calls.ts';
import { PathNames } from '../../src/kernel/portable-names.ts';
import { statfsOf, statOf, timespecFromStructMs } from '../../src/kernel/portable-values.ts';
import { entry, reply, stubOperations } from './support/stub-operations.ts';
import { ToyError } from './support/toy-fs.ts';

const HIDDEN = '.fuse_hidden0000001000000001';
const O_RDONLY = 0;

const caller: Caller = { uid: 1, gid: 2, pid: 0, isResent: false, signal: new AbortController().signal };

/** A directory of names that tests change. Errors of the driver and of the toy keep their numbers. */
function directory(names: Record<string, number>, replaced: Partial<Operations> = {}) {
  const log: string[] = [];
  const note =
    (word: string) =>
    (...args: unknown[]) =>
      void log.push([word, ...args.filter((arg) => typeof arg !== 'object')].join(' '));
  const operations = stubOperations({
    lookup: (_caller, parent, name): Entry | NegativeEntry => {
      log.push(`lookup ${parent} ${name}`);
      const node = names[name];
      return node === undefined ? { node, entryTtlMs: 0 } : { ...entry, node: node as NodeId, entryTtlMs: 60_000 };
    },
    unlink: note('unlink'),
    rename: note('rename'),
    release: note('release'),
    getAttributes: (_caller, node) => ({ ...reply, attributes: { ...reply.attributes, ino: BigInt(node) } }),
    errnoOf: (error) => (error instanceof ToyError ? error.errno : -((error as NodeJS.ErrnoException).errno ?? -5)),
    ...replaced,
  });
  const paths = new PathNames(operations, caller);
  return { log, paths, calls: new PortableCalls(operations, paths, caller) };
}

const inodeOf = async (stat: Promise<Uint32Array>) => (await stat)[7];

describe('values', () => {
  test('sizes and times are two halves each, before 1970 is 1970', () => {
    const size = 5 * 2 ** 32 + 7;
    const mtime = { sec: 2 ** 32, nsec: 1_999_999 };
    const stat = statOf({
      ...reply.attributes,
      sizeBytes: size,
      mtime,
      atime: { sec: -1, nsec: 0 },
      ino: 2n ** 40n + 3n,
    });
    expect([stat[3], stat[4]]).toEqual([7, 5]);
    expect((stat[14] ?? 0) + (stat[15] ?? 0) * 2 ** 32).toBe(2 ** 32 * 1000 + 1);
    expect([stat[12], stat[13]]).toEqual([0, 0]);
    expect(stat[7]).toBe(3);
  });

  test('a large file system has blocks that 32 bits can count', () => {
    const status = { blockSizeBytes: 4096, blocks: 2 ** 38, blocksFree: 2 ** 38, maxNameBytes: 255 };
    const statfs = statfsOf({ ...status, files: 2 ** 40, filesFree: 2 ** 40 });
    expect((statfs[0] ?? 0) * (statfs[2] ?? 0)).toBe(2 ** 50);
    expect(statfs[5]).toBe(2 ** 32 - 1);
    expect(statfs[10]).toBe(255);
  });

  test('times in milliseconds, before 1970 too', () => {
    expect(timespecFromStructMs(1_500n)).toEqual({ sec: 1, nsec: 500_000_000 });
    expect(timespecFromStructMs(-1_500n)).toEqual({ sec: -2, nsec: 500_000_000 });
  });
});

describe('paths', () => {
  test('each name is asked for once while it may be believed', async () => {
    const { log, paths } = directory({ a: 20, b: 21 });
    expect(await paths.resolve('/')).toBe(1);
    expect(await paths.resolve('/a/b')).toBe(21);
    expect(await paths.resolve('/a/b')).toBe(21);
    expect(log).toEqual(['lookup 1 a', 'lookup 20 b']);
    paths.invalidateEntry(20 as NodeId, 'b');
    await paths.resolve('/a/b');
    expect(log).toHaveLength(3);
  });

  test('what is missing, too long or no UTF-8 is refused', async () => {
    const { paths } = directory({});
    await expect(paths.resolve('/none')).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(paths.resolve(`/${'ä'.repeat(128)}`)).rejects.toMatchObject({ code: 'ENAMETOOLONG' });
    await expect(paths.resolve('/\ufffd')).rejects.toMatchObject({ code: 'EILSEQ' });
  });
});

describe('open files', () => {
  test('the name of an open file leads to the version that is open', async () => {
    const names: Record<string, number> = { f: 20 };
    const { calls, paths } = directory(names);
    const handle = await calls.open('/f', O_RDONLY);
    names.f = 30;
    paths.invalidateEntry(1 as NodeId, 'f');
    expect(await inodeOf(calls.getattr('/f'))).toBe(20);
    await calls.release(handle);
    expect(await inodeOf(calls.getattr('/f'))).toBe(30);
  });

  test('an unlinked one is known by its handle and its hidden path until it is released', async () => {
    const names: Record<string, number> = { f: 20 };
    const { calls, log } = directory(names);
    const handle = await calls.open('/f', O_RDONLY);
    await calls.rename('/f', `/${HIDDEN}`);
    delete names.f;
    expect(log).toContain('unlink 1 f');
    expect(log.some((line) => line.startsWith('rename'))).toBe(false);
    expect(await inodeOf(calls.fgetattr(`/${HIDDEN}`, handle))).toBe(20);
    expect(await inodeOf(calls.getattr(`/${HIDDEN}`))).toBe(20);
    await expect(calls.getattr('/f')).rejects.toMatchObject({ code: 'ENOENT' });
    await calls.release(handle);
    await expect(calls.getattr(`/${HIDDEN}`)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('a closed file may have such a name', async () => {
    const { calls, log } = directory({ f: 20 });
    await calls.rename('/f', `/${HIDDEN}`);
    expect(log).toContain(`rename 1 f 1 ${HIDDEN}`);
  });

  test('a renamed one keeps its node', async () => {
    const { calls } = directory({ f: 20 });
    const handle = await calls.open('/f', O_RDONLY);
    await calls.rename('/f', '/g');
    expect(await inodeOf(calls.getattr('/g'))).toBe(20);
    await calls.release(handle);
  });

  test('a failed open leaves nothing behind', async () => {
    const names: Record<string, number> = { f: 20 };
    const failure = new ToyError(constants.errno.EACCES);
    const { calls, paths } = directory(names, { open: () => Promise.reject(failure) });
    await expect(calls.open('/f', O_RDONLY)).rejects.toBe(failure);
    expect(paths.heldAt({ parent: 1 as NodeId, name: 'f' })).toBeUndefined();
  });

  test('unknown handles are refused', async () => {
    const { calls } = directory({});
    await expect(calls.read(5, Buffer.alloc(1), 0)).rejects.toMatchObject({ code: 'EBADF' });
  });
});

test('what was replaced is looked up once more', async () => {
  const names: Record<string, number> = { f: 20 };
  const stale = new ToyError(constants.errno.ESTALE);
  const { calls, log } = directory(names, {
    getAttributes: (_caller, node) => {
      if (node === 20) {
        names.f = 30;
        throw stale;
      }
      return { ...reply, attributes: { ...reply.attributes, ino: BigInt(node) } };
    },
  });
  expect(await inodeOf(calls.getattr('/f'))).toBe(30);
  expect(log).toEqual(['lookup 1 f', 'lookup 1 f']);
});

test('a directory is read to its end, however many pieces it takes', async () => {
  const { calls } = directory(
    {},
    {
      readDirectory: (_caller, _node, offset, _withEntries, take) => {
        if (offset < 3) take({ name: `n${offset}`, nextOffset: offset + 1, ino: 9n, typeMode: 0o100000 });
      },
    },
  );
  expect((await calls.readdir('/')).names).toEqual(['n0', 'n1', 'n2']);
});

test('extended attributes fit, or are ERANGE', async () => {
  const { calls } = directory({ f: 20 });
  const room = Buffer.alloc(5);
  expect(await calls.getxattr('/f', 'user.a', Buffer.alloc(0))).toBe(5);
  expect(await calls.getxattr('/f', 'user.a', room)).toBe(5);
  expect(room.toString()).toBe('value');
  expect(await calls.listxattr('/f', Buffer.alloc(0))).toBe(14);
  await expect(calls.getxattr('/f', 'user.a', Buffer.alloc(4))).rejects.toMatchObject({ code: 'ERANGE' });
});
