import { closeSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { silentLogger } from '../../src/base/log.ts';
import { Opcode } from '../../src/kernel/protocol.ts';
import { type KernelSession, startSession } from '../../src/kernel/session.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { FakeKernel } from './support/fake-kernel.ts';
import { stubOperations } from './support/stub-operations.ts';

function getsReply(opcode: number, body: Buffer): boolean {
  if (opcode === Opcode.FORGET || opcode === Opcode.BATCH_FORGET || opcode === Opcode.NOTIFY_REPLY) return false;
  // An interrupt of something unknown is answered, one that does not say of what cannot be.
  return opcode !== Opcode.INTERRUPT || body.length >= 8;
}

let kernel: FakeKernel;
let session: KernelSession;

beforeAll(() => {
  kernel = new FakeKernel();
  const operations = stubOperations({
    // Half of the answers come later.
    lookup: async () => ({ node: undefined, entryTtlMs: 0 }),
    write: async (_caller, _node, _offset, payload) => payload.bytes().length,
    open: async () => ({ keepCache: false }),
    getAttributes: () => Promise.reject(new Error('no')),
  });
  session = startSession({ fd: kernel.fd, operations, log: silentLogger });
});

afterAll(async () => {
  await session.stop();
  kernel.disconnect();
  closeSync(kernel.fd);
});

/** Bodies with the shapes of real ones now and then: numbers that are small, ends that are NUL. */
const piece = fc.oneof(
  fc.uint8Array({ maxLength: 64 }),
  fc.constantFrom(new Uint8Array(8), Uint8Array.of(97, 0), new Uint8Array(16).fill(255), Uint8Array.of(1, 0, 0, 0)),
);
const body = fc.array(piece, { maxLength: 12 }).map((pieces) => Buffer.concat(pieces));
const opcode = fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 0, max: 64 }) }, { weight: 1, arbitrary: fc.nat() });

test('whatever a request holds, it is answered exactly once', { timeout: 3_600_000 }, async () => {
  let unique = 0n;
  await fc.assert(
    fc.asyncProperty(opcode, fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), body, async (code, node, bytes) => {
      unique += 2n;
      kernel.send({ opcode: code, unique, node, body: bytes });
      if (getsReply(code, bytes)) {
        const answer = await kernel.receive();
        if (answer.unique !== unique) throw new Error(`answered ${answer.unique} instead of ${unique}`);
        expect(answer.error).toBeLessThanOrEqual(0);
      }
      unique += 2n;
      // Anything left over from before would come first.
      const marker = await kernel.ask({ opcode: Opcode.STATFS, unique });
      expect(marker).toMatchObject({ unique, error: 0 });
    }),
    fuzzRuns(3000),
  );
  expect(session.status().inFlight).toBe(0);
});
