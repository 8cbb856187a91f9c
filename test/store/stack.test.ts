/** The decorators over the real thing: never more requests at once than allowed, and right in spite of faults. */
import { Writable } from 'node:stream';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { silentLogger } from '../../src/base/log.ts';
import type { ObjectStore } from '../../src/store/contract.ts';
import { limitStore } from '../../src/store/limit.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { stackStore } from '../../src/store/stack.ts';
import { traceStore } from '../../src/store/trace.ts';
import { wrapStore } from '../../src/store/wrap.ts';
import { freshBucket, openBucket, testServer } from '../support/buckets.ts';
import { type FaultProxy, startProxy } from '../support/proxy.ts';
import { bytesOf, collect, keysOf, PLAIN, read } from './conformance.ts';

describe('limit', () => {
  let memory: MemoryStore;
  beforeEach(async () => {
    memory = new MemoryStore();
    await memory.put('key', bytesOf('content'), { attributes: PLAIN });
  });

  it('never has more requests under way', async () => {
    let inFlight = 0;
    let maxInFlight = 0;
    const counted = wrapStore(memory, async (_, attempt) => {
      inFlight += 1;
      maxInFlight = Math.max(maxInFlight, inFlight);
      await new Promise((resolve) => setImmediate(resolve));
      inFlight -= 1;
      return attempt();
    });
    const store = limitStore(counted, 3);
    const work = Array.from({ length: 40 }, (_, n) => [
      store.put(`p${n}`, bytesOf('x'), { attributes: PLAIN }),
      read(store, 'key'),
      store.head('missing').catch(() => {}),
      keysOf(store, { prefix: 'p', limit: 1 }),
    ]);
    await Promise.all(work.flat());
    expect(maxInFlight).toBe(3);
  });

  it('holds the place of a GET until its body ends, is left or is given up', async () => {
    const store = limitStore(memory, 1);
    for (const finish of [
      (body: AsyncIterable<Uint8Array>) => collect(body),
      async (body: AsyncIterable<Uint8Array>) => {
        for await (const _ of body) break;
      },
      (body: AsyncIterable<Uint8Array>) => body[Symbol.asyncIterator]().return?.(),
    ]) {
      const { body } = await store.get('key');
      const order: string[] = [];
      const head = store.head('key').then(() => order.push('head'));
      await new Promise((resolve) => setImmediate(resolve));
      order.push('finish');
      await finish(body);
      await head;
      expect(order).toEqual(['finish', 'head']);
    }
  });

  it('serves those who wait in their order, but for those who gave up', async () => {
    const store = limitStore(memory, 1);
    const { body } = await store.get('key');
    const order: number[] = [];
    const control = new AbortController();
    const first = store.head('key').then(() => order.push(1));
    const second = store.head('key', { signal: control.signal });
    const third = store.head('key').then(() => order.push(3));
    control.abort();
    await expect(second).rejects.toMatchObject({ kind: 'Aborted' });
    await collect(body);
    await Promise.all([first, third]);
    expect(order).toEqual([1, 3]);
  });

  it('gives the place back after failures', async () => {
    const store = limitStore(memory, 1);
    for (let n = 0; n < 3; n += 1) {
      await expect(store.get('missing')).rejects.toMatchObject({ kind: 'NotFound' });
      await expect(store.head('missing')).rejects.toMatchObject({ kind: 'NotFound' });
    }
    expect(await read(store, 'key')).toBe('content');
  });
});

describe('trace', () => {
  it('counts operations, errors, bytes and what is under way', async () => {
    let nowMs = 0;
    const memory = new MemoryStore();
    const slow = wrapStore(memory, async (_, attempt) => {
      nowMs += 5;
      return attempt();
    });
    const clock = { nowMs: () => nowMs, monotonicMs: () => nowMs };
    const { store, stats } = traceStore(slow, { log: silentLogger, clock });
    await store.put('key', bytesOf('content'), { attributes: PLAIN });
    const { body } = await store.get('key');
    expect(stats().inFlight).toBe(1);
    await collect(body);
    await keysOf(store, { prefix: '' });
    await expect(store.head('missing')).rejects.toThrow();
    expect(stats()).toEqual({
      operations: {
        put: { count: 1, totalMs: 5, maxMs: 5 },
        get: { count: 1, totalMs: 5, maxMs: 5 },
        list: { count: 1, totalMs: 5, maxMs: 5 },
        head: { count: 1, totalMs: 5, maxMs: 5 },
      },
      errors: { NotFound: 1 },
      inFlight: 0,
      sentBytes: 7,
      receivedBytes: 7,
    });
  });
});

describe('the stack on a network that fails', () => {
  const MAX_IN_FLIGHT = 5;
  let proxy: FaultProxy;
  let bucket: string;
  beforeAll(async () => {
    bucket = await freshBucket();
    proxy = await startProxy({ upstream: testServer().endpoint, seed: 7 });
  });
  afterAll(() => proxy.stop());

  it('is right, within its limit, and tells no secret', async () => {
    let log = '';
    const sink = new Writable({
      write(chunk, _encoding, done) {
        log += chunk;
        done();
      },
    });
    const server = { ...testServer(), endpoint: proxy.endpoint };
    const base = openBucket(server, bucket, { idleTimeoutMs: 300, maxConnections: MAX_IN_FLIGHT });
    const { store, stats } = stackStore(base, {
      maxInFlight: MAX_IN_FLIGHT,
      log: pino({ level: 'trace' }, sink),
      retry: { baseDelayMs: 2, maxAttempts: 20 },
    });
    proxy.addFault({ effect: { type: 'status', status: 503, code: 'SlowDown' }, probability: 0.1 });
    proxy.addFault({ effect: { type: 'reset' }, probability: 0.05 });
    proxy.addFault({ effect: { type: 'loseAnswer' }, probability: 0.05 });
    proxy.addFault({ effect: { type: 'status', status: 500, code: 'InternalError' }, probability: 0.05 });
    proxy.addFault({ effect: { type: 'stall' }, probability: 0.01 });
    const names = Array.from({ length: 60 }, (_, n) => `object ${n}`);
    await Promise.all(names.map((name) => create(store, name)));
    expect((await keysOf(store, { prefix: '' })).toSorted()).toEqual(names.toSorted());
    await Promise.all(names.map(async (name) => expect(await read(store, name)).toBe(name)));
    await Promise.all(names.map((name) => store.copy(name, `copy of ${name}`)));
    expect(await store.deleteMany(names)).toEqual([]);
    expect(await keysOf(store, { prefix: '' })).toHaveLength(names.length);
    expect(proxy.maxInFlight).toBeLessThanOrEqual(MAX_IN_FLIGHT);
    expect(stats().inFlight).toBe(0);
    expect(Object.keys(stats().errors).length).toBeGreaterThanOrEqual(3);
    expect(log).toContain('retrying');
    expect(log).not.toContain(server.secretAccessKey);
    expect(log).not.toContain('Signature=');
    store.close();
  });

  function create(store: ObjectStore, name: string) {
    return store.put(name, bytesOf(name), { attributes: PLAIN, ifNoneMatch: '*' });
  }
});
