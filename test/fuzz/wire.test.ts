/** Requests of a kernel that has lost its mind, in all lengths, also about nodes that native threads answer for. */
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { NodeId } from '../../src/base/ids.ts';
import { silentLogger } from '../../src/base/log.ts';
import { Opcode } from '../../src/kernel/protocol.ts';
import { type KernelSession, startSession } from '../../src/kernel/session.ts';
import { FakeKernel, fields } from '../kernel/support/fake-kernel.ts';
import { reply, stubOperations } from '../kernel/support/stub-operations.ts';
import { fuzzRuns } from '../support/fuzz.ts';

const HOT = 40 as NodeId;
const HOT_BYTES = 5;
const SILENT: readonly number[] = [Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.NOTIFY_REPLY];

let kernel: FakeKernel;
let session: KernelSession;
let directory: string;
let fd: number;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'tsfs-fuzz-'));
  writeFileSync(join(directory, 'hot'), 'hello');
  fd = openSync(join(directory, 'hot'), 'r');
  kernel = new FakeKernel();
  session = startSession({ fd: kernel.fd, operations: stubOperations(), log: silentLogger });
  const attributes = { ...reply.attributes, sizeBytes: HOT_BYTES };
  expect(session.hotNodes.publish(HOT, { attributes, ttlMs: 30_000, fd })).toBe(true);
  session.hotNodes.limitXattrs(['user.']);
});

afterAll(async () => {
  await session.stop();
  kernel.disconnect();
  closeSync(kernel.fd);
  closeSync(fd);
  rmSync(directory, { recursive: true });
});

const opcodes = Object.values(Opcode).filter((code) => !SILENT.includes(code) && code !== Opcode.DESTROY);
const word = fc.oneof(fc.constantFrom(0, 1, 2, 5, 4096, 2 ** 31, 2 ** 32 - 1), fc.nat(2 ** 32 - 1));
const long = fc.oneof(
  fc.constantFrom(0n, 1n, 5n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
);
const name = fc.oneof(
  fc.constantFrom('', '.', '..', 'a/b', 'x'.repeat(300), 'user.a', 'system.a'),
  fc.string({ unit: 'binary', maxLength: 20 }),
);
/** Proper fields, and then cut anywhere. */
const body = fc
  .tuple(fc.array(fc.oneof(word, long, name), { maxLength: 8 }), fc.nat(200))
  .map(([list, length]) => fields(...list).subarray(0, length));
const node = fc.oneof(
  fc.constantFrom(0n, 1n, BigInt(HOT), 2n ** 53n, 2n ** 64n - 1n),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
);

let unique = 2n ** 40n;

/** Sends it, and a question behind it whose answer must come, after at most one of the request itself. */
async function survives(opcode: number, about: bigint, bytes: Buffer, claimedBytes?: number): Promise<void> {
  unique += 2n;
  const asked = unique;
  kernel.send({
    opcode,
    unique: asked,
    node: about,
    body: bytes,
    ...(claimedBytes === undefined ? {} : { claimedBytes }),
  });
  unique += 2n;
  kernel.send({ opcode: Opcode.STATFS, unique });
  const seen = new Set<bigint>();
  while (!seen.has(unique)) {
    const answer = await kernel.receive();
    expect([asked, unique]).toContain(answer.unique);
    expect(seen.has(answer.unique)).toBe(false);
    expect(answer.error).toBeLessThanOrEqual(0);
    if (opcode === Opcode.READ && answer.unique === asked && about === BigInt(HOT)) {
      expect('hello').toContain(answer.body.toString());
    }
    seen.add(answer.unique);
  }
  if (!seen.has(asked) && !SILENT.includes(opcode)) expect((await kernel.receive()).unique).toBe(asked);
}

test('any fields, cut anywhere', { timeout: 3_600_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...opcodes), node, body, (opcode, about, bytes) => survives(opcode, about, bytes)),
    fuzzRuns(1500),
  );
  expect(session.status().inFlight).toBe(0);
});

test('every opcode with a body of every length', { timeout: 120_000 }, async () => {
  for (const opcode of opcodes) {
    for (const about of [1n, BigInt(HOT)]) {
      for (let length = 0; length <= 112; length += 4) await survives(opcode, about, Buffer.alloc(length, 1));
    }
  }
  expect(session.status().inFlight).toBe(0);
});

test('lengths that are lies', { timeout: 3_600_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...opcodes), body, word, (opcode, bytes, claimed) =>
      survives(opcode, 1n, bytes, claimed),
    ),
    fuzzRuns(300),
  );
});
