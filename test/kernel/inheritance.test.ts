/** A session that goes on with the connection of an earlier process. */
import { closeSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { NodeId } from '../../src/base/ids.ts';
import { silentLogger } from '../../src/base/log.ts';
import type { OpenRecord, Operations } from '../../src/kernel/contract.ts';
import type { Agreement } from '../../src/kernel/negotiation.ts';
import { InitFlag2, Notify, Opcode } from '../../src/kernel/protocol.ts';
import { type KernelSession, startSession } from '../../src/kernel/session.ts';
import { FakeKernel, fields } from './support/fake-kernel.ts';
import { entry, stubOperations } from './support/stub-operations.ts';

const RESENT = 0x8000_0000_0000_0000n;
const O_WRONLY = 1;
const AGREEMENT: Agreement = {
  major: 7,
  minor: 45,
  maxReadaheadBytes: 0,
  flags: 0,
  flags2: InitFlag2.HAS_RESEND,
  passthrough: false,
};

let kernel: FakeKernel;
let session: KernelSession;
let records: Map<number, OpenRecord>;
let agreements: Agreement[];

beforeEach(() => {
  kernel = new FakeKernel();
  records = new Map();
  agreements = [];
});

afterEach(async () => {
  await session.stop();
  kernel.disconnect();
  closeSync(kernel.fd);
});

function start(replaced: Partial<Operations>, opens?: readonly OpenRecord[]): void {
  session = startSession({
    fd: kernel.fd,
    operations: stubOperations(replaced),
    log: silentLogger,
    inherits: opens && { agreement: AGREEMENT, opens },
    legacy: {
      opens: { put: (record) => records.set(record.handle, record), delete: (handle) => records.delete(handle) },
      noteAgreement: (agreement) => agreements.push(agreement),
    },
  });
}

function openRequest(unique: bigint, flags = O_WRONLY) {
  return { opcode: Opcode.OPEN, unique, node: 20n, body: fields(flags, 0) };
}

function releaseRequest(unique: bigint, handle: bigint) {
  return { opcode: Opcode.RELEASE, unique, node: 20n, body: fields(handle, O_WRONLY, 0, 0n) };
}

test('asks for what was not answered, before anything else', async () => {
  start({}, []);
  expect(await kernel.receive()).toEqual({ error: Notify.RESEND, unique: 0n, body: Buffer.alloc(0) });
  expect(session.status().protocol).toBe('7.45');
});

test('a first session asks for nothing, and tells what was agreed upon', async () => {
  start({});
  await kernel.ask({ opcode: Opcode.INIT, unique: 2n, body: fields(7, 45, 0, 0) });
  expect(agreements).toMatchObject([{ major: 7, minor: 45, passthrough: false }]);
});

test('opens for writing are kept until their release, others are not', async () => {
  start({});
  await kernel.ask(openRequest(2n, 0));
  expect(records.size).toBe(0);
  const { body } = await kernel.ask(openRequest(4n));
  expect([...records.values()]).toEqual([{ handle: 4, node: 20, flags: O_WRONLY, backingId: 0, backingInode: 0 }]);
  await kernel.ask(releaseRequest(6n, body.readBigUInt64LE(0)));
  expect(records.size).toBe(0);
});

test('an open that was done but for its reply is not done again', async () => {
  const opened: number[] = [];
  const record = { handle: 4, node: 20 as NodeId, flags: O_WRONLY, backingId: 0, backingInode: 0 };
  start({ open: (_caller, node) => ({ keepCache: opened.push(node) > 0 }) }, [record]);
  await kernel.receive();
  const { body } = await kernel.ask(openRequest(RESENT | 4n));
  expect(body.readBigUInt64LE(0)).toBe(4n);
  expect(opened).toEqual([]);
  await kernel.ask(openRequest(6n));
  expect(opened).toEqual([20]);
});

test('a creation that was done but for its reply is answered with the file', async () => {
  const record = { handle: 4, node: entry.node, flags: O_WRONLY, backingId: 0, backingInode: 0 };
  start({ create: () => Promise.reject(new Error('made twice')) }, [record]);
  await kernel.receive();
  const body = fields(O_WRONLY, 0o644, 0, 0, 'name');
  const reply = await kernel.ask({ opcode: Opcode.CREATE, unique: RESENT | 4n, body });
  expect(reply.error).toBe(0);
  expect(reply.body.readBigUInt64LE(0)).toBe(BigInt(entry.node));
});

test('releases count once, and only for opens that are counted here', async () => {
  const released: number[] = [];
  const record = { handle: 4, node: 20 as NodeId, flags: O_WRONLY, backingId: 0, backingInode: 0 };
  start({ release: (node) => void released.push(node) }, [record]);
  await kernel.receive();
  expect(await kernel.ask(releaseRequest(10n, 4n))).toMatchObject({ error: 0 });
  expect(released).toEqual([20]);
  expect(await kernel.ask(releaseRequest(RESENT | 10n, 4n))).toMatchObject({ error: 0 });
  // A reader's, answered by the earlier process.
  expect(await kernel.ask(releaseRequest(12n, 12345n))).toMatchObject({ error: 0 });
  expect(released).toEqual([20]);
});

test('callers say whether their request comes again', async () => {
  const seen: boolean[] = [];
  start({ unlink: (caller) => void seen.push(caller.isResent) }, []);
  await kernel.receive();
  const body = fields('name');
  await kernel.ask({ opcode: Opcode.UNLINK, unique: 4n, body });
  await kernel.ask({ opcode: Opcode.UNLINK, unique: RESENT | 6n, body });
  expect(seen).toEqual([false, true]);
});
