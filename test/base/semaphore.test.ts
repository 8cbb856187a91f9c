import { expect, test } from 'vitest';
import { Semaphore } from '../../src/base/semaphore.ts';

function flush(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

test('first come, first served, also for large requests', async () => {
  const semaphore = new Semaphore(10);
  const order: string[] = [];
  await semaphore.acquire(6);
  const large = semaphore.acquire(8).then(() => order.push('large'));
  const small = semaphore.acquire(1).then(() => order.push('small'));
  expect(semaphore.tryAcquire(1)).toBe(false);
  await flush();
  expect(order).toEqual([]);
  semaphore.release(6);
  await Promise.all([large, small]);
  expect(order).toEqual(['large', 'small']);
  expect(semaphore.used).toBe(9);
});

test('more than the capacity runs alone', async () => {
  const semaphore = new Semaphore(10);
  await semaphore.acquire(1);
  let isIn = false;
  const huge = semaphore.acquire(50).then(() => {
    isIn = true;
  });
  await flush();
  expect(isIn).toBe(false);
  semaphore.release(1);
  await huge;
  expect(semaphore.tryAcquire(1)).toBe(false);
  semaphore.release(50);
  await semaphore.acquire(50);
  semaphore.release(50);
  expect(semaphore.used).toBe(0);
});

test('who gives up makes way for those behind', async () => {
  const semaphore = new Semaphore(10);
  await semaphore.acquire(5);
  const abort = new AbortController();
  const large = semaphore.acquire(10, abort.signal);
  const small = semaphore.acquire(5);
  abort.abort(new Error('enough'));
  await expect(large).rejects.toThrow('enough');
  await small;
  await expect(semaphore.acquire(1, abort.signal)).rejects.toThrow('enough');
  expect(semaphore.used).toBe(10);
});

test('run releases, whatever the task does', async () => {
  const semaphore = new Semaphore(1);
  await expect(semaphore.run(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
  expect(await semaphore.run(async () => 1)).toBe(1);
  expect(semaphore.used).toBe(0);
});
