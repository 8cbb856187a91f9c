import { once } from 'node:events';
import { mkdtemp, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { NodeId } from '../../src/base/ids.ts';
import { silentLogger } from '../../src/base/log.ts';
import type { Index } from '../../src/index/contract.ts';
import { openIndex } from '../../src/index/open.ts';
import { type Journal, STAGING_BLOCK_BYTES, STAGING_EXTENTS_LIMIT, type Staging } from '../../src/journal/contract.ts';
import { openJournal } from '../../src/journal/journal.ts';

const NODE = 17 as NodeId;
let root: string;
let index: Index;
let journal: Journal;
/** Their descriptors are closed at the end; their index is closed already, so they note nothing any more. */
let abandoned: Journal[] = [];

function start(bootId = 'boot-1'): void {
  index = openIndex({ path: join(root, 'index.db'), log: silentLogger });
  journal = openJournal({ directory: join(root, 'staging'), index, log: silentLogger, bootId });
}

/** Ends without a word, as a killed process does: nothing is flushed, noted or closed in order. */
async function restart(bootId = 'boot-1'): Promise<readonly Staging[]> {
  abandoned.push(journal);
  await index.close();
  start(bootId);
  return journal.recover();
}

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tsfs-journal-'));
  start();
  await journal.recover();
});

afterEach(async () => {
  await journal.close();
  for (const journal of abandoned) await journal.close();
  abandoned = [];
  await index.close();
  await rm(root, { recursive: true });
});

function baseByte(position: number): number {
  return 1 + (position % 251);
}

function baseBytes(offset: number, lengthBytes: number): Uint8Array {
  return Uint8Array.from({ length: lengthBytes }, (_, i) => baseByte(offset + i));
}

/** Reads as the file system does: fills in what is missing, then reads the file. */
async function content(staging: Staging): Promise<Buffer> {
  for (const gap of staging.missing(0, staging.sizeBytes)) {
    await staging.fill(gap.offset, baseBytes(gap.offset, gap.lengthBytes));
  }
  return readFile(staging.path);
}

async function write(staging: Staging, offset: number, bytes: Uint8Array): Promise<void> {
  for (const gap of staging.missingForWrite(offset, bytes.byteLength)) {
    await staging.fill(gap.offset, baseBytes(gap.offset, gap.lengthBytes));
  }
  await staging.write(offset, bytes);
}

describe('a staging file', () => {
  test('of new content is complete, private and as long as its content', async () => {
    const staging = await journal.stage(NODE, 0);
    await staging.write(0, Buffer.from('hello'));
    expect(staging).toMatchObject({ sizeBytes: 5, isComplete: true, version: 1 });
    expect(staging.dirty.list).toEqual([{ start: 0, end: 5 }]);
    expect((await stat(staging.path)).mode & 0o777).toBe(0o600);
    expect((await stat(join(root, 'staging'))).mode & 0o777).toBe(0o700);
  });

  test('shows old content around what was written, to the byte', async () => {
    const staging = await journal.stage(NODE, 10_000);
    await staging.write(5000, Buffer.from('new'));
    expect(staging.missingForWrite(4999, 2)).toEqual([]);
    expect(staging.missing(4998, 10)).toEqual([
      { offset: 4998, lengthBytes: 2 },
      { offset: 5003, lengthBytes: 5 },
    ]);
    const expected = Buffer.from(baseBytes(0, 10_000));
    expected.write('new', 5000);
    expect(await content(staging)).toEqual(expected);
    expect(staging.isComplete).toBe(true);
    expect(staging.dirty.list).toEqual([{ start: 5000, end: 5003 }]);
  });

  test('a fill never overwrites what was written, not even while it is being written', async () => {
    const staging = await journal.stage(NODE, 4096);
    const { promise: mayWrite, resolve: letWrite } = Promise.withResolvers<void>();
    const writing = staging.writeBy(100, 4, async (fd) => {
      await mayWrite;
      const file = await open(`/proc/self/fd/${fd}`, 'r+');
      await file.write(Buffer.from('mine'), 0, 4, 100);
      await file.close();
    });
    let isFilled = false;
    const filling = staging.fill(0, baseBytes(0, 4096)).then(() => {
      isFilled = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(isFilled).toBe(false);
    letWrite();
    await Promise.all([writing, filling]);
    const bytes = await content(staging);
    expect(bytes.subarray(100, 104).toString()).toBe('mine');
    expect(bytes[99]).toBe(baseByte(99));
    expect(bytes[104]).toBe(baseByte(104));
  });

  test('a failed write leaves neither length nor presence behind', async () => {
    const staging = await journal.stage(NODE, 100);
    const failing = staging.writeBy(50, 100, async () => {
      const file = await open(staging.path, 'r+');
      await file.write(Buffer.alloc(60, 0xff), 0, 60, 50);
      await file.close();
      throw Object.assign(new Error('disk full'), { code: 'ENOSPC' });
    });
    await expect(failing).rejects.toThrow('disk full');
    expect(staging).toMatchObject({ sizeBytes: 100, version: 0 });
    expect((await content(staging)).equals(baseBytes(0, 100))).toBe(true);
  });

  test('cut and grown again shows zeros, not old content', async () => {
    const staging = await journal.stage(NODE, 8192);
    await staging.truncate(100);
    await staging.truncate(8192);
    expect(staging.baseSizeBytes).toBe(100);
    const bytes = await content(staging);
    expect(bytes.subarray(0, 100).equals(baseBytes(0, 100))).toBe(true);
    expect(bytes.subarray(100).every((byte) => byte === 0)).toBe(true);
    expect(staging.dirty.list).toEqual([{ start: 100, end: 8192 }]);
  });

  test('after an upload everything is base and nothing dirty, unless it changed meanwhile', async () => {
    const staging = await journal.stage(NODE, 10);
    await staging.write(5, Buffer.alloc(10));
    const { version } = staging;
    await staging.write(0, Buffer.from('x'));
    expect(staging.noteUploaded(version)).toBe(false);
    expect(staging.dirty.isEmpty).toBe(false);
    expect(staging.noteUploaded(staging.version)).toBe(true);
    expect(staging.dirty.isEmpty).toBe(true);
    expect(staging).toMatchObject({ sizeBytes: 15, baseSizeBytes: 15 });
    expect(staging.missing(0, 15)).toEqual([{ offset: 1, lengthBytes: 4 }]);
  });

  test('the number of extents is bounded', async () => {
    const stride = 64;
    const count = 4 * STAGING_EXTENTS_LIMIT;
    const staging = await journal.stage(NODE, stride * count);
    for (let i = 0; i < count; i += 1) await write(staging, i * stride, Buffer.from([0]));
    const blocks = Math.ceil((stride * count) / STAGING_BLOCK_BYTES);
    expect(staging.present.list.length).toBeLessThanOrEqual(STAGING_EXTENTS_LIMIT + blocks);
    const bytes = await content(staging);
    const isRight = bytes.every((byte, i) => byte === (i % stride === 0 ? 0 : baseByte(i)));
    expect(isRight).toBe(true);
  });

  test('writes that nobody told of are noticed', async () => {
    const staging = await journal.stage(NODE, 0);
    expect(await staging.noteUnseenWrites()).toBe(false);
    await writeFile(staging.path, 'written by the kernel');
    expect(await staging.noteUnseenWrites()).toBe(true);
    expect(staging.sizeBytes).toBe(21);
    expect(staging.dirty.list).toEqual([{ start: 0, end: 21 }]);
    await new Promise((resolve) => setTimeout(resolve, 30));
    await staging.noteUnseenWrites();
    const { version } = staging;
    expect(await staging.noteUnseenWrites()).toBe(false);
    expect(staging.version).toBe(version);
  });

  test('a held descriptor outlives its staging file', async () => {
    const staging = await journal.stage(NODE, 0);
    await staging.write(0, Buffer.from('kept'));
    const release = staging.hold();
    const { fd } = staging;
    await journal.discard(NODE);
    expect((await readFile(`/proc/self/fd/${fd}`)).toString()).toBe('kept');
    release();
    await expect
      .poll(() =>
        stat(`/proc/self/fd/${fd}`).then(
          () => 'open',
          () => 'closed',
        ),
      )
      .toBe('closed');
  });

  test('behaves like a plain file under random operations', async () => {
    const operation = fc.oneof(
      fc.record({ kind: fc.constant('write' as const), at: fc.nat(20_000), lengthBytes: fc.nat(6000) }),
      fc.record({ kind: fc.constant('truncate' as const), at: fc.nat(20_000), lengthBytes: fc.constant(0) }),
      fc.record({ kind: fc.constant('read' as const), at: fc.nat(20_000), lengthBytes: fc.nat(6000) }),
      fc.record({ kind: fc.constant('restart' as const), at: fc.nat(1), lengthBytes: fc.constant(0) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.nat(12_000), fc.array(operation, { maxLength: 12 }), async (baseSize, operations) => {
        let staging = await journal.stage(NODE, baseSize);
        let model = Buffer.from(baseBytes(0, baseSize));
        for (const { kind, at, lengthBytes } of operations) {
          if (kind === 'write') {
            const bytes = Buffer.alloc(lengthBytes, 0xaa);
            if (lengthBytes > 0)
              model = Buffer.concat([model, Buffer.alloc(Math.max(0, at + lengthBytes - model.length))]);
            bytes.copy(model, at);
            await write(staging, at, bytes);
          } else if (kind === 'truncate') {
            model = Buffer.concat([model.subarray(0, at), Buffer.alloc(Math.max(0, at - model.length))]);
            await staging.truncate(at);
          } else if (kind === 'read') {
            for (const gap of staging.missing(at, lengthBytes)) {
              await staging.fill(gap.offset, baseBytes(gap.offset, gap.lengthBytes));
            }
          } else {
            if (at === 1) await staging.sync();
            [staging] = (await restart(at === 1 ? `boot-${Math.random()}` : index.getFact('journal.bootId'))) as [
              Staging,
            ];
          }
          expect(staging.sizeBytes).toBe(model.length);
        }
        const bytes = await content(staging);
        expect(bytes.equals(model)).toBe(true);
        await journal.discard(NODE);
      }),
      { numRuns: 40 },
    );
  }, 60_000);
});

describe('a staging file over a file that has the old content', () => {
  const bytes = baseBytes(0, 10_000);
  const source = () => join(root, 'source');
  const move = async (path: string) => {
    await rename(source(), path);
    return true;
  };

  test('needs nothing, has no changes, and notes what is written', async () => {
    await writeFile(source(), bytes);
    const staging = await journal.stageOver(NODE, bytes.length, move);
    expect(staging).toMatchObject({ sizeBytes: 10_000, baseSizeBytes: 10_000, isComplete: true });
    expect(staging?.dirty.list).toEqual([]);
    expect(journal.find(NODE)).toBe(staging);
    await staging?.write(5, Buffer.from('new'));
    expect(staging?.dirty.list).toEqual([{ start: 5, end: 8 }]);
    const [again] = await restart();
    expect(again).toMatchObject({ sizeBytes: 10_000, isComplete: true });
    expect((await content(again as Staging)).subarray(0, 10)).toEqual(
      Buffer.from([1, 2, 3, 4, 5, 110, 101, 119, 9, 10]),
    );
  });

  test('is not made when the file cannot be moved', async () => {
    expect(await journal.stageOver(NODE, 5, async () => false)).toBeUndefined();
    await expect(journal.stageOver(NODE, 5, move)).rejects.toMatchObject({ code: 'ENOENT' });
    expect(journal.find(NODE)).toBeUndefined();
    expect(await restart()).toEqual([]);
    expect(await journal.stage(NODE, 5)).toMatchObject({ isComplete: false });
  });
});

describe('coming and going', () => {
  test('one staging file for a node, however many ask', async () => {
    const [a, b] = await Promise.all([journal.stage(NODE, 0), journal.stage(NODE, 0)]);
    expect(a).toBe(b);
    expect(journal.find(NODE)).toBe(a);
    await journal.discard(NODE);
    expect(journal.find(NODE)).toBeUndefined();
    expect(await readdir(join(root, 'staging'))).toEqual([]);
    expect(index.pending.counts().stagings).toBe(0);
  });

  test('a new staging file waits for the old one to go', async () => {
    await journal.stage(NODE, 0);
    const [, staging] = await Promise.all([journal.discard(NODE), journal.stage(NODE, 5)]);
    expect(index.pending.getStaging(NODE)?.baseSizeBytes).toBe(5);
    expect(await readdir(join(root, 'staging'))).toEqual([staging.path.split('/').at(-1)]);
  });

  test('a file that is handed over is forgotten', async () => {
    const staging = await journal.stage(NODE, 0);
    await staging.write(0, Buffer.from('content'));
    const taken = join(root, 'taken');
    await journal.handOver(NODE, async (path, sizeBytes) => {
      expect(sizeBytes).toBe(7);
      expect(journal.find(NODE)).toBeUndefined();
      await rename(path, taken);
    });
    expect((await readFile(taken)).toString()).toBe('content');
    expect(await restart()).toEqual([]);
    expect(await readdir(join(root, 'staging'))).toEqual([]);
  });

  test('a file that was being handed over when the process ended is gone, and nothing is missed', async () => {
    const staging = await journal.stage(NODE, 0);
    await staging.write(0, Buffer.from('content'));
    index.nodes.update(NODE, { dirty: false });
    await rename(staging.path, join(root, 'taken'));
    expect(await restart()).toEqual([]);
    expect(index.pending.counts().stagings).toBe(0);
  });

  test('a staging file that somebody deleted can be discarded and handed over still', async () => {
    await rm((await journal.stage(NODE, 0)).path);
    await journal.discard(NODE);
    await rm((await journal.stage(NODE, 0)).path);
    await expect(journal.handOver(NODE, (path) => rename(path, join(root, 'taken')))).rejects.toThrow('ENOENT');
    expect(index.pending.counts().stagings).toBe(0);
    expect(journal.find(NODE)).toBeUndefined();
  });

  test('intents stay until they are done', async () => {
    const first = journal.begin({ kind: 'delete', key: 'a', etag: 'e' });
    const move = {
      kind: 'rename',
      node: NODE,
      fromKey: 'b',
      toKey: 'c',
      etag: 'e',
      to: NODE,
      name: 'c',
      replaces: undefined,
      phase: 'copying',
    } as const;
    const second = journal.begin(move);
    journal.fail(second, 'no network');
    journal.done(first);
    await journal.sync();
    await restart();
    expect(journal.unfinished()).toMatchObject([{ id: second, error: 'no network', action: { kind: 'rename' } }]);
    journal.become(second, { ...move, phase: 'undoing' });
    expect(journal.unfinished()).toMatchObject([{ id: second, error: undefined, action: { phase: 'undoing' } }]);
  });

  test('free space is told', async () => {
    expect(await journal.freeBytes()).toBeGreaterThan(0);
  });
});

describe('recovery', () => {
  test('restores content, extents and the error', async () => {
    const staging = await journal.stage(NODE, 10_000);
    await staging.write(2000, Buffer.alloc(1000, 0xee));
    await staging.write(9000, Buffer.alloc(3000, 0xdd));
    await journal.noteFailure(NODE, 'QuotaExceeded');
    const [recovered] = (await restart()) as [Staging];
    expect(recovered).toMatchObject({ node: NODE, sizeBytes: 12_000, baseSizeBytes: 10_000, isComplete: false });
    expect(recovered.dirty.list).toEqual([
      { start: 2000, end: 3000 },
      { start: 9000, end: 12_000 },
    ]);
    expect(index.pending.getStaging(NODE)?.error).toBe('QuotaExceeded');
    expect((await content(recovered))[3000]).toBe(baseByte(3000));
  });

  test('sets aside what it does not know', async () => {
    await writeFile(join(root, 'staging', 'stranger'), 'bytes');
    await writeFile(join(root, 'staging', 'empty'), '');
    await restart();
    expect(await readdir(join(root, 'staging'))).toEqual(['lost+found']);
    expect((await readFile(join(root, 'staging', 'lost+found', 'stranger'))).toString()).toBe('bytes');
  });

  test('a row whose file is gone is dropped', async () => {
    const staging = await journal.stage(NODE, 0);
    await rm(staging.path);
    expect(await restart()).toEqual([]);
    expect(index.pending.counts().stagings).toBe(0);
  });

  test('after a restart of the machine believes what was flushed, and sets aside the rest', async () => {
    const synced = await journal.stage(NODE, 1000);
    await synced.write(0, Buffer.alloc(10, 0xee));
    await synced.sync();
    await synced.write(500, Buffer.alloc(10, 0xee));
    const other = await journal.stage(18 as NodeId, 1000);
    await other.write(0, Buffer.alloc(10, 0xee));
    const [recovered, ...more] = (await restart('boot-2')) as [Staging];
    expect(more).toEqual([]);
    expect(recovered.present.list).toEqual([{ start: 0, end: 10 }]);
    expect(await readdir(join(root, 'staging', 'lost+found'))).toHaveLength(1);
    await journal.close();
  });

  test('kill -9 at any moment loses no acknowledged write', async () => {
    const { spawn } = await import('node:child_process');
    const script = new URL('./crash-child.ts', import.meta.url).pathname;
    await index.close();
    for (let round = 0; round < 5; round += 1) {
      await rm(root, { recursive: true });
      const child = spawn(process.execPath, [script, root, String(round)], { stdio: ['ignore', 'pipe', 'inherit'] });
      let output = '';
      child.stdout.on('data', (chunk: Buffer) => {
        output += chunk.toString();
      });
      const enough = 20 + round * 40;
      await expect.poll(() => output.split('\n').length, { timeout: 20_000, interval: 1 }).toBeGreaterThan(enough);
      child.kill('SIGKILL');
      await once(child, 'close');
      const { applyTo, BASE_BYTES, makeOperation } = await import('./crash-model.ts');
      start();
      const [recovered] = (await journal.recover()) as [Staging];
      const acknowledged = output.split('\n').length - 1;
      let model: Buffer = Buffer.from(baseBytes(0, BASE_BYTES));
      for (let i = 0; i < acknowledged; i += 1) model = applyTo(model, makeOperation(round, i));
      const next = applyTo(model, makeOperation(round, acknowledged));
      const bytes = await content(recovered);
      expect([model.length, next.length]).toContain(bytes.length);
      // The operation that was under way may have happened, or not, or in part.
      const wrong = bytes.findIndex((byte, i) => byte !== (model[i] ?? 0) && byte !== (next[i] ?? 0));
      expect(wrong).toBe(-1);
      await journal.close();
      await index.close();
    }
    start();
  }, 60_000);
});
