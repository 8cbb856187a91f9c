import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { NodeId } from '../../src/base/ids.ts';
import { silentLogger } from '../../src/base/log.ts';
import type { Caller, Operations, WritePayload } from '../../src/kernel/contract.ts';
import { ERRNO, Opcode } from '../../src/kernel/protocol.ts';
import { type KernelSession, startSession } from '../../src/kernel/session.ts';
import { FakeKernel, fields } from './support/fake-kernel.ts';
import { entry, stubOperations } from './support/stub-operations.ts';
import { ToyError } from './support/toy-fs.ts';

const FIRST_NOTIFICATION = 0n;

let kernel: FakeKernel;
let session: KernelSession;
let scratch: string;

beforeEach(() => {
  kernel = new FakeKernel();
  scratch = mkdtempSync(join(tmpdir(), 'tsfs-session-'));
});

afterEach(async () => {
  await session.stop();
  kernel.disconnect();
  closeSync(kernel.fd);
  rmSync(scratch, { recursive: true });
});

function serve(replaced: Partial<Operations> = {}, log = silentLogger): void {
  session = startSession({ fd: kernel.fd, operations: stubOperations(replaced), log });
}

function readBody(offset: bigint, sizeBytes: number): Buffer {
  return fields(0n, offset, sizeBytes, 0, 0n, 0, 0);
}

function writeBody(offset: bigint, payload: Buffer, claimedBytes = payload.length): Buffer {
  return fields(0n, offset, claimedBytes, 0, 0n, 0, 0, payload);
}

describe('answers', () => {
  test('an operation that answers at once, and one that answers later', async () => {
    const later = async () => 'later';
    serve({ readLink: (_caller, node) => (node === 1 ? 'at once' : later()) });
    const first = await kernel.ask({ opcode: Opcode.READLINK, unique: 2n });
    expect(first).toEqual({ error: 0, unique: 2n, body: Buffer.from('at once') });
    const second = await kernel.ask({ opcode: Opcode.READLINK, unique: 4n, node: 5n });
    expect(second).toEqual({ error: 0, unique: 4n, body: Buffer.from('later') });
    expect(session.status().inFlight).toBe(0);
  });

  test('the bit of a resent request is echoed', async () => {
    serve({ readLink: async () => 'x' });
    const unique = 0x8000_0000_0000_0002n;
    expect(await kernel.ask({ opcode: Opcode.READLINK, unique })).toMatchObject({ unique });
  });

  test('errors, thrown and rejected', async () => {
    serve({
      unlink: () => {
        throw new ToyError(ERRNO.EBUSY);
      },
      removeDirectory: () => Promise.reject(new ToyError(ERRNO.ENOTEMPTY)),
    });
    const body = fields('name');
    expect(await kernel.ask({ opcode: Opcode.UNLINK, unique: 2n, body })).toMatchObject({ error: -ERRNO.EBUSY });
    expect(await kernel.ask({ opcode: Opcode.RMDIR, unique: 4n, body })).toMatchObject({ error: -ERRNO.ENOTEMPTY });
  });

  test('a defect in an operation is EIO and one line in the log', async () => {
    const lines: string[] = [];
    const log = pino({ level: 'warn' }, { write: (line: string) => void lines.push(line) });
    serve({ lookup: () => ({ ...entry, attributes: undefined as never }) }, log);
    const answer = await kernel.ask({ opcode: Opcode.LOOKUP, unique: 2n, body: fields('name') });
    expect(answer).toEqual({ error: -ERRNO.EIO, unique: 2n, body: Buffer.alloc(0) });
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('LOOKUP');
  });

  test.each([0, -5, 512, 1.5, Number.NaN])('errnoOf returning %d counts as EIO', async (errno) => {
    serve({ flush: () => Promise.reject(new Error('no')), errnoOf: () => errno });
    const answer = await kernel.ask({ opcode: Opcode.FLUSH, unique: 2n, body: Buffer.alloc(24) });
    expect(answer.error).toBe(-ERRNO.EIO);
  });

  test('unknown opcodes', async () => {
    serve();
    for (const opcode of [0, 31, 32, 33, 37, 40, 51, 52, 99, 0xffff_ffff]) {
      expect(await kernel.ask({ opcode, unique: 2n })).toMatchObject({ error: -ERRNO.ENOSYS });
    }
    expect(await kernel.ask({ opcode: Opcode.IOCTL, unique: 2n })).toMatchObject({ error: -ERRNO.ENOTTY });
    expect(await kernel.ask({ opcode: Opcode.LINK, unique: 2n })).toMatchObject({ error: -ERRNO.EPERM });
  });

  test('a header with a wrong length', async () => {
    serve();
    for (const claimedBytes of [0, 39, 41, 0xffff_ffff]) {
      const answer = await kernel.ask({ opcode: Opcode.GETATTR, unique: 2n, claimedBytes });
      expect(answer).toEqual({ error: -ERRNO.EINVAL, unique: 2n, body: Buffer.alloc(0) });
    }
    kernel.sendBytes(Buffer.alloc(39));
    expect(await kernel.ask({ opcode: Opcode.GETATTR, unique: 4n, body: Buffer.alloc(16) })).toMatchObject({
      error: 0,
    });
    expect(session.status().counters.malformed).toBe(5);
  });
});

describe('operations', () => {
  test('rename flags', async () => {
    const seen: unknown[] = [];
    serve({ rename: (...args) => void seen.push(args.slice(1)) });
    const rename = { opcode: Opcode.RENAME, unique: 2n, body: fields(7n, 'old', 'new') };
    expect(await kernel.ask(rename)).toMatchObject({ error: 0 });
    const rename2 = (flags: number) => ({
      opcode: Opcode.RENAME2,
      unique: 2n,
      body: fields(7n, flags, 0, 'old', 'new'),
    });
    expect(await kernel.ask(rename2(1))).toMatchObject({ error: 0 });
    expect(await kernel.ask(rename2(2))).toMatchObject({ error: -ERRNO.EINVAL });
    expect(await kernel.ask(rename2(4))).toMatchObject({ error: -ERRNO.EINVAL });
    expect(seen).toEqual([
      [1, 'old', 7, 'new', { noReplace: false }],
      [1, 'old', 7, 'new', { noReplace: true }],
    ]);
  });

  test('only regular files are made by MKNOD', async () => {
    serve();
    const node = (mode: number) => ({ opcode: Opcode.MKNOD, unique: 2n, body: fields(mode, 0, 0, 0, 'x') });
    expect(await kernel.ask(node(0o100644))).toMatchObject({ error: 0 });
    for (const type of [0o010000, 0o020000, 0o060000, 0o140000]) {
      expect(await kernel.ask(node(type | 0o644))).toMatchObject({ error: -ERRNO.EPERM });
    }
  });

  test('forgets, alone and in batches, get no reply', async () => {
    const forgotten: [NodeId, number][] = [];
    serve({ forget: (node, count) => void forgotten.push([node, count]) });
    kernel.send({ opcode: Opcode.FORGET, unique: 0n, node: 9n, body: fields(3n) });
    kernel.send({ opcode: Opcode.BATCH_FORGET, unique: 0n, body: fields(2, 0, 10n, 1n, 11n, 2n) });
    kernel.send({ opcode: Opcode.BATCH_FORGET, unique: 0n, body: fields(0xffff_ffff, 0, 12n, 1n, 13n) });
    expect(await kernel.ask({ opcode: Opcode.STATFS, unique: 2n })).toMatchObject({ unique: 2n });
    await expect.poll(() => forgotten.length).toBe(4);
    expect(Object.fromEntries(forgotten)).toEqual({ 9: 3, 10: 1, 11: 2, 12: 1 });
  });

  test('sizes of extended attributes', async () => {
    serve();
    const get = (size: number) => kernel.ask({ opcode: Opcode.GETXATTR, unique: 2n, body: fields(size, 0, 'user.a') });
    expect(await get(0)).toMatchObject({ error: 0, body: fields(5, 0) });
    expect(await get(4)).toMatchObject({ error: -ERRNO.ERANGE });
    expect(await get(5)).toMatchObject({ error: 0, body: Buffer.from('value') });
    const list = await kernel.ask({ opcode: Opcode.LISTXATTR, unique: 2n, body: fields(100, 0) });
    expect(list.body).toEqual(fields('user.a', 'user.b'));
    const tooLarge = { opcode: Opcode.SETXATTR, unique: 2n, body: fields(65_537, 0, 'user.a', Buffer.alloc(65_537)) };
    expect(await kernel.ask(tooLarge)).toMatchObject({ error: -ERRNO.E2BIG });
  });

  test('an error after some directory entries leaves the entries', async () => {
    serve({
      readDirectory: (_caller, _node, offset, _with, take) => {
        if (offset === 0) take({ name: 'a', nextOffset: 1, ino: 5n, typeMode: 0o100000 });
        throw new ToyError(ERRNO.EIO);
      },
    });
    const list = (offset: bigint) => kernel.ask({ opcode: Opcode.READDIR, unique: 2n, body: readBody(offset, 4096) });
    expect((await list(0n)).body.length).toBe(32);
    expect(await list(1n)).toMatchObject({ error: -ERRNO.EIO });
  });

  test('flags of OPEN', async () => {
    serve();
    const NOFLUSH = 1 << 5;
    const KEEP_CACHE = 1 << 1;
    const open = async (flags: number) => {
      const { body } = await kernel.ask({ opcode: Opcode.OPEN, unique: 2n, body: fields(flags, 0) });
      // Behind the handle.
      return body.subarray(8);
    };
    expect(await open(0)).toEqual(fields(KEEP_CACHE | NOFLUSH, 0));
    expect(await open(1)).toEqual(fields(KEEP_CACHE, 0));
    expect(await open(2)).toEqual(fields(KEEP_CACHE, 0));
    expect(await open(0o1000)).toEqual(fields(KEEP_CACHE, 0));
  });
});

describe('reads and writes', () => {
  test('from a file, cut to what was asked, and at its end', async () => {
    const path = join(scratch, 'content');
    writeFileSync(path, '0123456789');
    const fd = openSync(path, 'r');
    let released = 0;
    serve({
      read: (_caller, _node, offset) => ({
        kind: 'file',
        fd,
        offset,
        lengthBytes: 1_000_000,
        release: () => (released += 1),
      }),
    });
    const read = (offset: bigint, size: number) =>
      kernel.ask({ opcode: Opcode.READ, unique: 2n, body: readBody(offset, size) });
    expect((await read(2n, 3)).body.toString()).toBe('234');
    expect((await read(8n, 100)).body.toString()).toBe('89');
    expect((await read(20n, 100)).body.toString()).toBe('');
    await expect.poll(() => released).toBe(3);
    closeSync(fd);
  });

  test('from a file that cannot be read', async () => {
    const fd = openSync(join(scratch, 'write-only'), 'w');
    let released = 0;
    serve({
      read: () => ({ kind: 'file', fd, offset: 0, lengthBytes: 10, release: () => (released += 1) }),
      errnoOf: (error) => -((error as NodeJS.ErrnoException).errno ?? -ERRNO.EIO),
    });
    const answer = await kernel.ask({ opcode: Opcode.READ, unique: 2n, body: readBody(0n, 10) });
    expect(answer).toMatchObject({ error: -ERRNO.EBADF, unique: 2n });
    await expect.poll(() => released).toBe(1);
    expect(session.status().inFlight).toBe(0);
    closeSync(fd);
  });

  test('bytes are cut to what was asked', async () => {
    serve();
    const answer = await kernel.ask({ opcode: Opcode.READ, unique: 2n, body: readBody(0n, 2) });
    expect(answer.body.toString()).toBe('he');
  });

  test.each([1, 4096, 131_071, 131_072, 190_000])('a payload of %d bytes to a file and to JavaScript', async (size) => {
    const path = join(scratch, 'content');
    const fd = openSync(path, 'w+');
    const payload = Buffer.alloc(size, 'abcdefg');
    let seen: Uint8Array | undefined;
    serve({
      write: async (_caller, _node, offset, held) => {
        seen = held.bytes();
        await held.toFile(fd, offset);
        return held.lengthBytes;
      },
    });
    const answer = await kernel.ask({ opcode: Opcode.WRITE, unique: 2n, body: writeBody(3n, payload) });
    expect(answer).toEqual({ error: 0, unique: 2n, body: fields(size, 0) });
    expect(readFileSync(path).equals(Buffer.concat([Buffer.alloc(3), payload]))).toBe(true);
    expect(Buffer.from(seen ?? []).equals(payload)).toBe(true);
    closeSync(fd);
  });

  test('a payload is gone once its request is answered', async () => {
    let kept: WritePayload | undefined;
    serve({
      write: (_caller, _node, _offset, payload) => {
        kept = payload;
        return payload.lengthBytes;
      },
    });
    await kernel.ask({ opcode: Opcode.WRITE, unique: 2n, body: writeBody(0n, Buffer.from('abc')) });
    expect(() => kept?.bytes()).toThrow('EINVAL');
    await expect(kept?.toFile(1, 0)).rejects.toThrow('EINVAL');
  });

  test('a payload that cannot be written', async () => {
    const path = join(scratch, 'content');
    writeFileSync(path, '');
    const fd = openSync(path, 'r');
    serve({
      write: async (_caller, _node, _offset, payload) => {
        await expect(payload.toFile(fd, 0)).rejects.toMatchObject({ code: 'EBADF', syscall: 'pwrite' });
        throw new ToyError(ERRNO.ENOSPC);
      },
    });
    const answer = await kernel.ask({ opcode: Opcode.WRITE, unique: 2n, body: writeBody(0n, Buffer.from('abc')) });
    expect(answer.error).toBe(-ERRNO.ENOSPC);
    closeSync(fd);
  });

  test('a payload of another size than claimed', async () => {
    serve();
    for (const claimed of [0, 2, 4]) {
      const body = writeBody(0n, Buffer.from('abc'), claimed);
      expect(await kernel.ask({ opcode: Opcode.WRITE, unique: 2n, body })).toMatchObject({ error: -ERRNO.EINVAL });
    }
    const empty = await kernel.ask({ opcode: Opcode.WRITE, unique: 2n, body: writeBody(0n, Buffer.alloc(0)) });
    expect(empty).toMatchObject({ error: 0, body: fields(0, 0) });
  });
});

describe('interrupts', () => {
  function waiting(caller: Caller): Promise<never> {
    const { promise, reject } = Promise.withResolvers<never>();
    caller.signal.addEventListener('abort', () => reject(new ToyError(ERRNO.EINTR)));
    return promise;
  }

  test('end the operation that waits', async () => {
    serve({ flush: waiting });
    kernel.send({ opcode: Opcode.FLUSH, unique: 2n, body: Buffer.alloc(24) });
    await expect.poll(() => session.status().inFlight).toBe(1);
    kernel.send({ opcode: Opcode.INTERRUPT, unique: 3n, body: fields(2n) });
    expect(await kernel.receive()).toMatchObject({ error: -ERRNO.EINTR, unique: 2n });
  });

  test('find a resent request', async () => {
    serve({ flush: waiting });
    const unique = 0x8000_0000_0000_0002n;
    kernel.send({ opcode: Opcode.FLUSH, unique, body: Buffer.alloc(24) });
    await expect.poll(() => session.status().inFlight).toBe(1);
    kernel.send({ opcode: Opcode.INTERRUPT, unique: unique + 1n, body: fields(unique) });
    expect(await kernel.receive()).toMatchObject({ error: -ERRNO.EINTR, unique });
  });

  test('a signal that is asked for after the interrupt is aborted already', async () => {
    const go = Promise.withResolvers<void>();
    serve({
      flush: async (caller) => {
        await go.promise;
        if (caller.signal.aborted) throw new ToyError(ERRNO.EINTR);
      },
    });
    kernel.send({ opcode: Opcode.FLUSH, unique: 2n, body: Buffer.alloc(24) });
    await expect.poll(() => session.status().inFlight).toBe(1);
    kernel.send({ opcode: Opcode.INTERRUPT, unique: 3n, body: fields(2n) });
    await expect.poll(() => session.status().counters.requests).toBe(2);
    await kernel.ask({ opcode: Opcode.STATFS, unique: 4n });
    go.resolve();
    expect(await kernel.receive()).toMatchObject({ error: -ERRNO.EINTR, unique: 2n });
  });

  test('for an unknown request ask the kernel to repeat them', async () => {
    serve();
    const answer = await kernel.ask({ opcode: Opcode.INTERRUPT, unique: 3n, body: fields(2n) });
    expect(answer).toEqual({ error: -ERRNO.EAGAIN, unique: 3n, body: Buffer.alloc(0) });
  });
});

describe('notifications', () => {
  const INVAL_INODE = 2;
  const INVAL_ENTRY = 3;

  test('never overtake the reply of the operation that sent them', async () => {
    serve({
      setAttributes: async (_caller, node) => {
        session.notifier.invalidateNode(node, -1, 0);
        session.notifier.invalidateEntry(node, 'é');
        await Promise.resolve();
        await Promise.resolve();
        return entry;
      },
    });
    kernel.send({ opcode: Opcode.SETATTR, unique: 2n, node: 6n, body: Buffer.alloc(88) });
    expect(await kernel.receive()).toMatchObject({ error: 0, unique: 2n });
    expect(await kernel.receive()).toEqual({
      error: INVAL_INODE,
      unique: FIRST_NOTIFICATION,
      body: fields(6n, -1n, 0n),
    });
    expect(await kernel.receive()).toEqual({
      error: INVAL_ENTRY,
      unique: FIRST_NOTIFICATION,
      body: fields(6n, 2, 0, 'é'),
    });
    await expect.poll(() => session.status().counters.notificationsSent).toBe(2);
    expect(session.status().notificationsDropped).toBe(0);
  });

  test('beyond the bound they are dropped and counted', async () => {
    serve();
    for (let i = 0; i < 16_390; i += 1) session.notifier.invalidateNode(6 as NodeId, 0, 0);
    expect(session.status().notificationsDropped).toBe(6);
    for (let i = 0; i < 16_384; i += 1) await kernel.receive();
  });
});

describe('the end', () => {
  test('by unmounting: destroy is called, waiting operations are aborted', async () => {
    let destroyed = 0;
    let aborted = false;
    serve({
      flush: (caller) => {
        caller.signal.addEventListener('abort', () => (aborted = true));
        return new Promise(() => undefined);
      },
      destroy: () => (destroyed += 1),
    });
    kernel.send({ opcode: Opcode.FLUSH, unique: 2n, body: Buffer.alloc(24) });
    await expect.poll(() => session.status().inFlight).toBe(1);
    kernel.disconnect();
    expect(await session.ended).toEqual({ reason: 'unmounted' });
    expect({ destroyed, aborted, inFlight: session.status().inFlight }).toEqual({
      destroyed: 1,
      aborted: true,
      inFlight: 0,
    });
    kernel = Object.assign(kernel, { disconnect: () => undefined });
  });

  test('by stopping: the file system is not destroyed, late answers are not sent', async () => {
    let destroyed = 0;
    const late = Promise.withResolvers<void>();
    serve({ flush: () => late.promise, destroy: () => (destroyed += 1) });
    kernel.send({ opcode: Opcode.FLUSH, unique: 2n, body: Buffer.alloc(24) });
    await expect.poll(() => session.status().inFlight).toBe(1);
    expect(await session.stop()).toEqual({ reason: 'stopped' });
    late.resolve();
    await new Promise(setImmediate);
    expect(session.status().counters.replies).toBe(0);
    expect(destroyed).toBe(0);
    // A successor serves the same connection without INIT.
    serve();
    expect(await kernel.ask({ opcode: Opcode.READLINK, unique: 4n })).toMatchObject({ unique: 4n, error: 0 });
  });

  test('what is unanswered then comes to the successor, where the kernel does not send it again', async () => {
    const keptFd = openSync(join(scratch, 'kept'), 'w+');
    const agreement = { major: 7, minor: 38, maxReadaheadBytes: 0, flags: 0, flags2: 0, passthrough: false };
    const ends = { fd: kernel.fd, log: silentLogger, keptFd, inherits: { agreement, opens: [] } };
    const written = Buffer.alloc(150_000, 'content');
    const never = () => new Promise<never>(() => undefined);
    session = startSession({ ...ends, operations: stubOperations({ write: never, readLink: never }) });
    kernel.send({ opcode: Opcode.WRITE, unique: 2n, node: 5n, body: writeBody(3n, written) });
    kernel.send({ opcode: Opcode.READLINK, unique: 4n });
    await expect.poll(() => session.status().inFlight).toBe(2);
    await session.stop();
    const seen: unknown[] = [];
    const operations = stubOperations({
      write: (caller, node, offset, payload) => {
        seen.push([caller.isResent, node, offset, written.equals(payload.bytes())]);
        return payload.lengthBytes;
      },
      readLink: (caller) => {
        seen.push(caller.isResent);
        return 'target';
      },
    });
    session = startSession({ ...ends, operations });
    // The kernel is asked whether it still waits for them.
    const asked = [await kernel.receive(), await kernel.receive()];
    expect(asked.map(({ error, unique }) => [error, unique])).toEqual([
      [-ERRNO.EAGAIN, 5n],
      [-ERRNO.EAGAIN, 3n],
    ]);
    expect(await kernel.receive()).toMatchObject({ unique: 2n, error: 0 });
    expect(await kernel.receive()).toMatchObject({ unique: 4n, error: 0 });
    expect(seen).toEqual([[true, 5, 3, true], true]);
    expect(await kernel.ask({ opcode: Opcode.READLINK, unique: 6n })).toMatchObject({ unique: 6n, error: 0 });
    expect(seen.at(-1)).toBe(false);
    closeSync(keptFd);
  });

  test('DESTROY and the end call destroy once', async () => {
    let destroyed = 0;
    serve({ destroy: () => (destroyed += 1) });
    expect(await kernel.ask({ opcode: Opcode.DESTROY, unique: 2n })).toMatchObject({ error: 0 });
    kernel.disconnect();
    await session.ended;
    expect(destroyed).toBe(1);
    kernel = Object.assign(kernel, { disconnect: () => undefined });
  });
});
