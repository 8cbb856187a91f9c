import { beforeEach, describe, expect, it } from 'vitest';
import { silentLogger } from '../../src/base/log.ts';
import { type ObjectStore, StoreError, type StoreErrorKind } from '../../src/store/contract.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { retryStore } from '../../src/store/retry.ts';
import { type Operation, wrapStore } from '../../src/store/wrap.ts';
import { bytesOf, keysOf, PLAIN, read, streamOf } from './conformance.ts';

type Step = 'ok' | { readonly before: StoreError } | { readonly after: StoreError };

let memory: MemoryStore;
let nowMs: number;
let pausesMs: number[];
let script: Step[];
let calls: Operation[];

const failure = (kind: StoreErrorKind, retryAfterMs?: number) => new StoreError(kind, 'scripted', { retryAfterMs });
const unsent = (kind: StoreErrorKind, retryAfterMs?: number): Step => ({ before: failure(kind, retryAfterMs) });
const unanswered = (kind: StoreErrorKind): Step => ({ after: failure(kind) });

beforeEach(() => {
  memory = new MemoryStore();
  nowMs = 0;
  pausesMs = [];
  script = [];
  calls = [];
});

/** Plays the script, one step for each request; the rest succeeds. */
function scripted(inner: ObjectStore = memory): ObjectStore {
  return wrapStore(inner, async (call, attempt) => {
    calls.push(call.operation);
    const step = script.shift() ?? 'ok';
    if (step !== 'ok' && 'before' in step) throw step.before;
    const result = await attempt();
    if (step !== 'ok') throw step.after;
    return result;
  });
}

function retrying(inner: ObjectStore = scripted(), random = () => 1): ObjectStore {
  return retryStore(inner, {
    maxAttempts: 4,
    maxTotalMs: 10_000,
    baseDelayMs: 100,
    maxDelayMs: 300,
    log: silentLogger,
    clock: { nowMs: () => nowMs, monotonicMs: () => nowMs },
    sleep: async (ms) => {
      pausesMs.push(ms);
      nowMs += ms;
    },
    random,
  });
}

describe('retry', () => {
  it.each(['Throttled', 'Unavailable', 'Timeout', 'Transport', 'Corrupt'] as const)(
    'repeats after %s',
    async (kind) => {
      script = [unsent(kind), unsent(kind)];
      await retrying().put('a', bytesOf('x'), { attributes: PLAIN });
      expect(await read(memory, 'a')).toBe('x');
      expect(calls).toEqual(['put', 'put', 'put']);
    },
  );

  it.each([
    'NotFound',
    'NoSuchBucket',
    'PreconditionFailed',
    'NotModified',
    'InvalidRange',
    'AccessDenied',
    'BadCredentials',
    'ClockSkew',
    'QuotaExceeded',
    'Aborted',
    'NotSupported',
    'InvalidRequest',
  ] as const)('reports %s at once', async (kind) => {
    script = [unsent(kind)];
    await expect(retrying().head('a')).rejects.toMatchObject({ kind });
    expect(calls).toEqual(['head']);
  });

  it('waits longer each time, up to a limit, then reports the last error', async () => {
    script = Array.from({ length: 9 }, () => unsent('Unavailable'));
    await expect(retrying().head('a')).rejects.toMatchObject({ kind: 'Unavailable' });
    expect(pausesMs).toEqual([100, 200, 300]);
  });

  it('spreads the pauses', async () => {
    script = [unsent('Unavailable'), unsent('Unavailable')];
    const values = [0, 0.5];
    await expect(retrying(scripted(), () => values.shift() ?? 0).head('a')).rejects.toMatchObject({ kind: 'NotFound' });
    expect(pausesMs).toEqual([0, 100]);
  });

  it('waits as long as the store asks, within the total', async () => {
    script = [unsent('Throttled', 4000), unsent('Throttled', 4000), unsent('Throttled', 4000)];
    await expect(retrying().head('a')).rejects.toMatchObject({ kind: 'Throttled' });
    expect(pausesMs).toEqual([4000, 4000]);
  });

  it('does not repeat what is no failure of the store', async () => {
    const broken = {
      sizeBytes: 1,
      open: () => {
        throw new RangeError('defect');
      },
    };
    await expect(retrying().put('a', broken, { attributes: PLAIN })).rejects.toThrow(RangeError);
    expect(calls).toEqual(['put']);
  });

  it('gives up at the signal', async () => {
    script = [unsent('Unavailable')];
    const control = new AbortController();
    const store = retryStore(scripted(), {
      maxAttempts: 5,
      maxTotalMs: 60_000,
      baseDelayMs: 60_000,
      maxDelayMs: 60_000,
      log: silentLogger,
      random: () => 0.9,
    });
    const head = store.head('a', { signal: control.signal });
    setTimeout(() => control.abort(), 10);
    await expect(head).rejects.toMatchObject({ kind: 'Aborted' });
  });

  it('opens the body again for each attempt', async () => {
    script = [unanswered('Transport'), unsent('Timeout')];
    await retrying().put('a', streamOf('ab', 'c'), { attributes: PLAIN });
    expect(await read(memory, 'a')).toBe('abc');
  });

  it('goes on with a listing at the page that failed', async () => {
    for (const key of ['a', 'b']) await memory.put(key, bytesOf(''), { attributes: PLAIN });
    script = [unsent('Unavailable')];
    expect(await keysOf(retrying(), { prefix: '' })).toEqual(['a', 'b']);
    expect(calls).toEqual(['list', 'list', 'list']);
  });
});

describe('what may have happened although it failed', () => {
  it('takes its own object for created', async () => {
    script = [unanswered('Transport')];
    const result = await retrying().put('a', streamOf('mine'), { attributes: PLAIN, ifNoneMatch: '*' });
    expect(result.etag).toBe((await memory.head('a')).etag);
    expect(calls).toEqual(['put', 'put', 'head']);
  });

  it('tells a conflict with somebody else', async () => {
    script = [unsent('Transport')];
    await memory.put('a', bytesOf('theirs'), { attributes: PLAIN });
    const put = retrying().put('a', bytesOf('mine'), { attributes: PLAIN, ifNoneMatch: '*' });
    await expect(put).rejects.toMatchObject({ kind: 'PreconditionFailed' });
    expect(await read(memory, 'a')).toBe('theirs');
  });

  it('tells a conflict at the first attempt without a look', async () => {
    await memory.put('a', bytesOf('mine'), { attributes: PLAIN });
    const put = retrying().put('a', bytesOf('mine'), { attributes: PLAIN, ifNoneMatch: '*' });
    await expect(put).rejects.toMatchObject({ kind: 'PreconditionFailed' });
    expect(calls).toEqual(['put']);
  });

  it('takes its own upload for completed', async () => {
    const upload = await memory.createMultipart('m', { attributes: PLAIN });
    const part = await memory.uploadPart(upload, 1, bytesOf('part'));
    script = [unanswered('Transport')];
    const { etag } = await retrying().completeMultipart(upload, [part]);
    expect(etag).toBe((await memory.head('m')).etag);
    expect(calls).toEqual(['completeMultipart', 'head']);
  });

  it('completes again what was not completed', async () => {
    const upload = await memory.createMultipart('m', { attributes: PLAIN });
    const part = await memory.uploadPart(upload, 1, bytesOf('part'));
    script = [unsent('Unavailable'), unsent('Timeout')];
    await retrying().completeMultipart(upload, [part]);
    expect(await read(memory, 'm')).toBe('part');
    expect(calls).toEqual(['completeMultipart', 'head', 'head', 'completeMultipart']);
  });

  it('deletes again only what was not deleted for a passing reason', async () => {
    const asked: (readonly string[])[] = [];
    const answers = [
      [
        { key: 'b', error: failure('Unavailable') },
        { key: 'c', error: failure('AccessDenied') },
      ],
      [{ key: 'b', error: failure('Unavailable') }],
      [],
    ];
    const partial: ObjectStore = {
      ...wrapStore(memory, (_, attempt) => attempt()),
      deleteMany: async (keys) => {
        asked.push(keys);
        return answers.shift() ?? [];
      },
    };
    const failures = await retrying(partial).deleteMany(['a', 'b', 'c']);
    expect(asked).toEqual([['a', 'b', 'c'], ['b'], ['b']]);
    expect(failures).toMatchObject([{ key: 'c', error: { kind: 'AccessDenied' } }]);
  });

  it('reports what could not be deleted in the end', async () => {
    const error = failure('Throttled');
    const partial: ObjectStore = {
      ...wrapStore(memory, (_, attempt) => attempt()),
      deleteMany: async () => [{ key: 'b', error }],
    };
    expect(await retrying(partial).deleteMany(['a', 'b'])).toEqual([{ key: 'b', error }]);
    expect(pausesMs).toHaveLength(3);
  });
});
