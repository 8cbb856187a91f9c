import { afterEach, expect, test } from 'vitest';
import { BLOCK_BYTES } from '../../src/cache/contract.ts';
import { type BlockMemory, BlockPool } from '../../src/transfer/block-pool.ts';

const { signal } = new AbortController();
const BLOCKS = 160;

const pool = new BlockPool();
let taken: BlockMemory[] = [];

afterEach(() => {
  for (const memory of taken) memory.release();
  taken = [];
});

async function takeAll(): Promise<void> {
  for (let i = 0; i < BLOCKS; i += 1) taken.push(await pool.take(signal));
}

test('every block has memory of its own, at the start of a page', async () => {
  await takeAll();
  taken.forEach(({ bytes }, i) => {
    bytes.fill(i);
  });
  taken.forEach(({ bytes, isPageAligned }, i) => {
    expect(bytes.length).toBe(BLOCK_BYTES);
    expect(bytes[0]).toBe(i);
    expect(bytes[BLOCK_BYTES - 1]).toBe(i);
    expect(isPageAligned).toBe(true);
    expect(bytes.byteOffset % 4096).toBe(0);
  });
});

test('who finds none waits for the last hold of a block', async () => {
  await takeAll();
  const [first] = taken.splice(0, 1) as [BlockMemory];
  first.hold();
  let next: BlockMemory | undefined;
  const waiting = pool.take(signal).then((memory) => {
    next = memory;
    taken.push(memory);
  });
  first.release();
  await Promise.resolve();
  expect(next).toBeUndefined();
  first.release();
  await waiting;
  expect(next?.bytes.byteOffset).toBe(first.bytes.byteOffset);
});

test('what is kept for readers who may come goes first, the oldest before others', async () => {
  await takeAll();
  const dropped: number[] = [];
  const spares = taken.splice(0, 3).map((memory, i) => () => {
    dropped.push(i);
    memory.release();
  });
  for (const drop of spares) pool.spare(drop);
  taken.push(await pool.take(signal), await pool.take(signal));
  expect(dropped).toEqual([0, 1]);
  pool.unspare(spares[2] as () => void);
  const waiting = pool.take(signal);
  expect(dropped).toEqual([0, 1]);
  spares[2]?.();
  taken.push(await waiting);
});

test('memory that becomes spare while somebody waits is his', async () => {
  await takeAll();
  const waiting = pool.take(signal);
  const [memory] = taken.splice(0, 1) as [BlockMemory];
  pool.spare(() => memory.release());
  taken.push(await waiting);
});

test('who gives up waiting leaves no trace', async () => {
  await takeAll();
  const abort = new AbortController();
  const waiting = pool.take(abort.signal);
  abort.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
  taken.splice(0, 1)[0]?.release();
  taken.push(await pool.take(signal));
});
