import { expect, test } from 'vitest';
import { PartMemory } from '../../src/transfer/part-memory.ts';

test('what was given back is taken again', () => {
  const memory = new PartMemory(100);
  const [small, large] = [memory.take(10), memory.take(60)];
  memory.give(small);
  memory.give(large);
  expect(memory.take(8)).toBe(small);
  expect(memory.take(41)).toBe(large);
});

test('but not where it is too small, or much too large', () => {
  for (const sizeBytes of [4, 11]) {
    const memory = new PartMemory(100);
    const small = memory.take(10);
    memory.give(small);
    expect(memory.take(sizeBytes)).not.toBe(small);
  }
});

test('what is much larger than what is wanted stays for others', () => {
  const memory = new PartMemory(100);
  const large = memory.take(40);
  const larger = memory.take(50);
  memory.give(large);
  memory.give(larger);
  expect(memory.take(10).byteLength).toBe(10);
  expect(memory.take(50)).toBe(larger);
});

test('what no size fits gives way to what is used', () => {
  const memory = new PartMemory(100);
  const [old, young] = [memory.take(10), memory.take(10)];
  memory.give(old);
  memory.give(young);
  memory.take(20);
  const taken = [memory.take(10), memory.take(10)];
  expect(taken).not.toContain(old);
  expect(taken).not.toContain(young);
});

test('no more is kept than the limit, and nothing when it is cleared', () => {
  const memory = new PartMemory(100);
  const [first, second] = [memory.take(60), memory.take(60)];
  memory.give(first);
  memory.give(second);
  expect(memory.take(60)).toBe(first);
  expect(memory.take(60)).not.toBe(second);
  memory.give(first);
  memory.clear();
  expect(memory.take(60)).not.toBe(first);
});
