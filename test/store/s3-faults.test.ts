/** S3 behind a network that fails, and from servers that answer anything. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ObjectStore } from '../../src/store/contract.ts';
import type { S3Store } from '../../src/store/s3.ts';
import { freshBucket, openBucket, testServer } from '../support/buckets.ts';
import { type Effect, type FaultProxy, type S3Operation, startProxy } from '../support/proxy.ts';
import { bytesOf, collect, keysOf, md5, PLAIN, pagesOf, read } from './conformance.ts';

let proxy: FaultProxy;
let bucket: string;
let store: S3Store;

beforeAll(async () => {
  bucket = await freshBucket();
  proxy = await startProxy({ upstream: testServer().endpoint });
  store = openThrough();
  await store.put('key', bytesOf('content'), { attributes: PLAIN });
});

afterEach(() => {
  proxy.clearFaults();
  proxy.reset();
});

afterAll(async () => {
  store.close();
  await proxy.stop();
});

function openThrough(options = {}): S3Store {
  return openBucket({ ...testServer(), endpoint: proxy.endpoint }, bucket, options);
}

function once(effect: Effect, ...operations: S3Operation[]): void {
  proxy.addFault({ effect, times: 1, ...(operations.length === 0 ? {} : { operations }) });
}

const readKey = async (from: ObjectStore = store) => read(from, 'key');

describe('faults of the network', () => {
  it('tells errors of the server', async () => {
    once({ type: 'status', status: 503, code: 'SlowDown', headers: { 'retry-after': '7' } });
    await expect(readKey()).rejects.toMatchObject({ kind: 'Throttled', status: 503, retryAfterMs: 7000 });
    once({ type: 'status', status: 500, code: 'InternalError' });
    await expect(readKey()).rejects.toMatchObject({ kind: 'Unavailable', status: 500, code: 'InternalError' });
    once({ type: 'answer', status: 502, body: '<html>bad gateway</html>' });
    await expect(readKey()).rejects.toMatchObject({ kind: 'Unavailable', status: 502 });
    once({ type: 'status', status: 403, code: 'QuotaExceeded' });
    await expect(store.put('q', bytesOf(''), { attributes: PLAIN })).rejects.toMatchObject({ kind: 'QuotaExceeded' });
  });

  it('tells resets, lost answers and torn bodies', async () => {
    once({ type: 'reset' });
    await expect(store.head('key')).rejects.toMatchObject({ kind: 'Transport' });
    once({ type: 'loseAnswer' });
    await expect(store.put('lost', bytesOf('x'), { attributes: PLAIN })).rejects.toMatchObject({ kind: 'Transport' });
    expect(await read(store, 'lost')).toBe('x');
    once({ type: 'truncate', afterBytes: 3 }, 'GET');
    await expect(readKey()).rejects.toMatchObject({ kind: 'Transport' });
    once({ type: 'truncate', afterBytes: 30 }, 'LIST');
    await expect(keysOf(store, { prefix: '' })).rejects.toMatchObject({ kind: 'Transport' });
  });

  it('tells a server that is away', async () => {
    await proxy.refuse();
    await expect(store.head('key')).rejects.toMatchObject({ kind: 'Transport' });
    await proxy.accept();
    expect(await readKey()).toBe('content');
  });

  it('gives up a server that does not answer, or stops in the middle', async () => {
    const impatient = openThrough({ idleTimeoutMs: 150 });
    once({ type: 'stall' });
    await expect(impatient.head('key')).rejects.toMatchObject({ kind: 'Timeout' });
    once({ type: 'stall', afterBytes: 3 }, 'GET');
    await expect(readKey(impatient)).rejects.toMatchObject({ kind: 'Timeout' });
    once({ type: 'stall', afterBytes: 30 }, 'LIST');
    await expect(keysOf(impatient, { prefix: '' })).rejects.toMatchObject({ kind: 'Timeout' });
    impatient.close();
  });

  it('waits for a reader that is slow', async () => {
    const bytes = randomBytes(8 * 2 ** 20);
    await store.put('big', bytesOf(bytes), { attributes: PLAIN });
    const impatient = openThrough({ idleTimeoutMs: 1000 });
    const { body } = await impatient.get('big');
    const chunks: Uint8Array[] = [];
    for await (const chunk of body) {
      if (chunks.length === 0) await sleep(2500);
      chunks.push(chunk);
    }
    expect(md5(Buffer.concat(chunks))).toBe(md5(bytes));
    impatient.close();
  });

  it('survives a body that breaks before anybody reads it', async () => {
    once({ type: 'truncate', afterBytes: 3 }, 'GET');
    const { body } = await store.get('key');
    await sleep(50);
    await expect(collect(body)).rejects.toMatchObject({ kind: 'Transport' });
  });

  it('stops at the signal, while it waits and while it reads', async () => {
    once({ type: 'stall' });
    const waiting = new AbortController();
    const head = store.head('key', { signal: waiting.signal });
    setTimeout(() => waiting.abort(), 50);
    await expect(head).rejects.toMatchObject({ kind: 'Aborted' });
    once({ type: 'stall', afterBytes: 3 }, 'GET');
    const reading = new AbortController();
    const { body } = await store.get('key', { signal: reading.signal });
    setTimeout(() => reading.abort(), 50);
    await expect(collect(body)).rejects.toMatchObject({ kind: 'Aborted' });
  });

  it('lets the store refuse bytes that were damaged on their way', async () => {
    once({ type: 'corrupt' }, 'PUT');
    const body = { ...bytesOf('summed'), md5: md5('summed', 'base64') };
    await expect(store.put('damaged', body, { attributes: PLAIN })).rejects.toMatchObject({ kind: 'Corrupt' });
    once({ type: 'corrupt' }, 'PUT');
    await expect(store.put('damaged', bytesOf('signed'), { attributes: PLAIN })).rejects.toThrow();
    await expect(store.head('damaged')).rejects.toMatchObject({ kind: 'NotFound' });
  });

  it('ends a request whose body cannot be read, and its connection', async () => {
    const broken = {
      sizeBytes: 2 ** 20,
      async *open() {
        yield Buffer.alloc(1000);
        throw new Error('read error');
      },
    };
    await expect(store.put('broken', broken, { attributes: PLAIN })).rejects.toThrow('read error');
    expect(await readKey()).toBe('content');
  });

  it('closes a source that is not read to its end', async () => {
    let closed = false;
    const source = {
      sizeBytes: 64 * 2 ** 20,
      async *open() {
        try {
          for (let n = 0; n < 64; n += 1) yield Buffer.alloc(2 ** 20);
        } finally {
          closed = true;
        }
      },
    };
    once({ type: 'reset' });
    await expect(store.put('unread', source, { attributes: PLAIN })).rejects.toMatchObject({ kind: 'Transport' });
    await sleep(0);
    expect(closed).toBe(true);
  });
});

describe('answers that are not what they seem', () => {
  it('finds errors behind status 200', async () => {
    once({ type: 'errorIn200', code: 'InternalError' });
    await expect(store.copy('key', 'copied')).rejects.toMatchObject({ kind: 'Unavailable' });
    once({ type: 'answer', status: 200, body: '<CopyObjectResult></CopyObjectResult>' });
    await expect(store.copy('key', 'copied')).rejects.toMatchObject({ kind: 'Unavailable' });
    once({ type: 'answer', status: 200, body: '' });
    await expect(store.copy('key', 'copied')).rejects.toMatchObject({ kind: 'Unavailable' });
    const upload = await store.createMultipart('mp', { attributes: PLAIN });
    const part = await store.uploadPart(upload, 1, bytesOf('part'));
    once({ type: 'errorIn200', code: 'SlowDown' });
    await expect(store.completeMultipart(upload, [part])).rejects.toMatchObject({ kind: 'Throttled' });
    once({ type: 'errorIn200', code: 'InternalError' });
    await expect(store.copyPart(upload, 2, 'key', { offset: 0, length: 7 })).rejects.toMatchObject({
      kind: 'Unavailable',
    });
    once({ type: 'errorIn200', code: 'InternalError' });
    await expect(keysOf(store, { prefix: '' })).rejects.toMatchObject({ kind: 'Unavailable' });
    expect((await store.completeMultipart(upload, [part])).etag).toMatch(/-1$/);
  });

  it('finds single failures in a batch delete', async () => {
    const failed = '<Error><Key>b</Key><Code>AccessDenied</Code><Message>no</Message></Error>';
    const gone = '<Error><Key>c</Key><Code>NoSuchKey</Code></Error>';
    once({ type: 'answer', status: 200, body: `<DeleteResult>${failed}${gone}</DeleteResult>` });
    const failures = await store.deleteMany(['a', 'b', 'c']);
    expect(failures).toMatchObject([{ key: 'b', error: { kind: 'AccessDenied' } }]);
  });

  it('cuts the range out of an answer that holds everything', async () => {
    const headers = { etag: '"e"', 'content-length': '10' };
    once({ type: 'answer', status: 200, headers, body: '0123456789' });
    const { offset, lengthBytes, head, body } = await store.get('key', { range: { offset: 3, length: 4 } });
    expect({ offset, lengthBytes, sizeBytes: head.sizeBytes }).toEqual({ offset: 3, lengthBytes: 4, sizeBytes: 10 });
    expect((await collect(body)).toString()).toBe('3456');
    once({ type: 'answer', status: 200, headers, body: '0123456789' });
    const past = store.get('key', { range: { offset: 10, length: 4 } });
    await expect(past).rejects.toMatchObject({ kind: 'InvalidRange' });
  });

  it.each([
    ['another range', { 'content-range': 'bytes 4-7/10', 'content-length': '4' }],
    ['another length', { 'content-range': 'bytes 3-5/10', 'content-length': '3' }],
    ['an impossible range', { 'content-range': 'bytes 3-6/5', 'content-length': '4' }],
    ['no total', { 'content-range': 'bytes 3-6/*', 'content-length': '4' }],
    ['nonsense', { 'content-range': 'bytes -9007199254740993-6/x', 'content-length': '4' }],
  ])('refuses a body of %s', async (_, headers) => {
    once({
      type: 'answer',
      status: 206,
      headers: { etag: '"e"', ...headers },
      body: '3456'.slice(0, Number(headers['content-length'])),
    });
    const get = store.get('key', { range: { offset: 3, length: 4 } });
    await expect(get).rejects.toMatchObject({ kind: 'Transport' });
  });

  it.each([
    ['no ETag', { 'content-length': '5' }],
    ['an empty ETag', { etag: '""', 'content-length': '5' }],
    ['a size beyond all', { etag: '"e"', 'content-length': '9007199254740993' }],
  ])('refuses a HEAD with %s', async (_, headers) => {
    once({ type: 'answer', status: 200, headers });
    await expect(store.head('key')).rejects.toMatchObject({ kind: 'Transport' });
  });

  it('takes odd headers for what they can mean', async () => {
    const headers = {
      etag: 'W/"weak"',
      'content-length': '5',
      'x-amz-meta-__proto__': 'x',
      'x-amz-meta-latin': Buffer.from('é').toString('latin1'),
      'x-amz-meta-bad': '%E9%zz',
    };
    once({ type: 'answer', status: 200, headers });
    const head = await store.head('key');
    expect(head).toMatchObject({ etag: 'weak', lastModifiedMs: 0, metadata: { latin: 'é', bad: '%E9%zz' } });
    expect(Object.getPrototypeOf(head.metadata)).toBe(Object.prototype);
  });

  it('skips entries of a listing that nobody could name', async () => {
    const entry = (key: string, size: string, etag: string) =>
      `<Contents>${key}<Size>${size}</Size>${etag}<LastModified>2024-01-01T00:00:00.999Z</LastModified></Contents>`;
    const body = `<ListBucketResult><EncodingType>url</EncodingType>
      ${entry('<Key>good%20one</Key>', '1', '<ETag>"e"</ETag>')}
      ${entry('<Key>bad%zzescape</Key>', '1', '<ETag>"e"</ETag>')}
      ${entry('', '1', '<ETag>"e"</ETag>')}
      <Contents><Key>no-size</Key><Size>many</Size><ETag>"e"</ETag></Contents>
      ${entry('<Key>negative</Key>', '-1', '<ETag>"e"</ETag>')}
      ${entry('<Key>no-etag</Key>', '1', '')}
      <CommonPrefixes></CommonPrefixes></ListBucketResult>`;
    once({ type: 'answer', status: 200, body });
    const [page] = await pagesOf(store, { prefix: '', delimiter: '/' });
    expect(page).toEqual({
      objects: [
        { key: 'good one', etag: 'e', sizeBytes: 1, lastModifiedMs: Date.UTC(2024) },
        { key: 'bad%zzescape', etag: 'e', sizeBytes: 1, lastModifiedMs: Date.UTC(2024) },
      ],
      prefixes: [],
    });
  });

  it.each(['not XML at all', '<ListBucketResult><Contents>'])(
    'reports a listing that cannot be read: %s',
    async (body) => {
      once({ type: 'answer', status: 200, body });
      await expect(keysOf(store, { prefix: '' })).rejects.toMatchObject({ kind: 'Transport' });
    },
  );
});

describe('listings of other servers', () => {
  const listing = (content: string) => `<ListBucketResult>${content}</ListBucketResult>`;
  const entry = (key: string) => `<Contents><Key>${key}</Key><Size>1</Size><ETag>"e"</ETag></Contents>`;

  it('asks by V1 where V2 is unknown, and remembers it', async () => {
    const old = openThrough();
    once({ type: 'status', status: 501, code: 'NotImplemented' }, 'LIST');
    expect(await keysOf(old, { prefix: 'key' })).toEqual(['key']);
    expect(await keysOf(old, { prefix: 'key' })).toEqual(['key']);
    expect(proxy.requests.map(({ url }) => url.includes('list-type=2'))).toEqual([true, false, false]);
    old.close();
  });

  it('goes on by V1 where V2 was ignored', async () => {
    const page = `<IsTruncated>true</IsTruncated>${entry('a b')}${entry('c%41')}`;
    once({ type: 'answer', status: 200, body: listing(page) });
    once({ type: 'answer', status: 200, body: listing(entry('d')) });
    expect(await keysOf(store, { prefix: '' })).toEqual(['a b', 'c%41', 'd']);
    expect(new URL(proxy.requests[1]?.url ?? '', proxy.endpoint).searchParams.get('marker')).toBe('c%41');
  });

  it('goes through empty pages, and asks again for a page that failed', async () => {
    const more = '<IsTruncated>true</IsTruncated><NextContinuationToken>';
    once({ type: 'answer', status: 200, body: listing(`${more}one</NextContinuationToken>`) });
    once({ type: 'status', status: 503, code: 'SlowDown' });
    once({ type: 'answer', status: 200, body: listing(entry('found')) });
    const pages = store.list({ prefix: '', limit: 5 })[Symbol.asyncIterator]();
    expect((await pages.next()).value).toEqual({ objects: [], prefixes: [] });
    await expect(pages.next()).rejects.toMatchObject({ kind: 'Throttled' });
    expect((await pages.next()).value?.objects).toMatchObject([{ key: 'found' }]);
    expect((await pages.next()).done).toBe(true);
    const tokens = proxy.requests.map(({ url }) => new URL(url, proxy.endpoint).searchParams.get('continuation-token'));
    expect(tokens).toEqual([null, 'one', 'one']);
  });

  it('does not go round in circles', async () => {
    const same = listing('<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>');
    proxy.addFault({ effect: { type: 'answer', status: 200, body: same }, operations: ['LIST'] });
    await expect(keysOf(store, { prefix: '' })).rejects.toMatchObject({ kind: 'Unavailable' });
    expect(proxy.counts()).toEqual({ LIST: 2 });
    proxy.clearFaults();
    once({ type: 'answer', status: 200, body: listing('<IsTruncated>true</IsTruncated>') });
    await expect(keysOf(store, { prefix: '' })).rejects.toMatchObject({ kind: 'Unavailable' });
  });

  it('deletes one by one where batches are unknown, and remembers it', async () => {
    const old = openThrough();
    for (const key of ['one', 'two']) await old.put(key, bytesOf(''), { attributes: PLAIN });
    proxy.reset();
    once({ type: 'status', status: 501, code: 'NotImplemented' }, 'DELETE_BATCH');
    expect(await old.deleteMany(['one', 'two'])).toEqual([]);
    expect(await old.deleteMany(['one'])).toEqual([]);
    expect(proxy.counts()).toEqual({ DELETE_BATCH: 1, DELETE: 3 });
    old.close();
  });
});

describe('regions', () => {
  it.each([
    ['a redirection', { type: 'answer', status: 301, headers: { 'x-amz-bucket-region': 'eu-north-7' } }],
    [
      'a refused signature',
      {
        type: 'answer',
        status: 400,
        body: '<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-north-7</Region></Error>',
      },
    ],
  ] as const)('learns the region from %s', async (_, effect) => {
    const moved = openThrough();
    once(effect, 'GET');
    expect(await readKey(moved)).toBe('content');
    expect(await readKey(moved)).toBe('content');
    const regions = proxy.requests.map(({ headers }) => /\/(\w+-\w+-\d)\/s3\//.exec(headers.authorization ?? '')?.[1]);
    expect(regions).toEqual(['us-east-1', 'eu-north-7', 'eu-north-7']);
    moved.close();
  });

  it('does not go on when the region learnt is refused too', async () => {
    const lost = openThrough();
    const effect: Effect = { type: 'answer', status: 301, headers: { 'x-amz-bucket-region': 'eu-north-7' } };
    proxy.addFault({ effect });
    await expect(lost.head('key')).rejects.toMatchObject({ kind: 'InvalidRequest', status: 301 });
    await expect(lost.head('key')).rejects.toMatchObject({ kind: 'InvalidRequest', status: 301 });
    expect(proxy.counts()).toEqual({ HEAD: 3 });
    lost.close();
  });
});

describe('credentials', () => {
  const { endpoint, ...keys } = { ...testServer() };
  const open = (accessKeyId: string, secretAccessKey: string, name = bucket) =>
    openBucket({ endpoint, accessKeyId, secretAccessKey }, name);

  it('tells why the bucket cannot be used', async () => {
    await expect(open('WRONG', keys.secretAccessKey).check()).rejects.toMatchObject({ kind: 'BadCredentials' });
    await expect(open(keys.accessKeyId, 'wrong').check()).rejects.toMatchObject({ kind: 'BadCredentials' });
    const missing = open(keys.accessKeyId, keys.secretAccessKey, 'no-such-bucket-here');
    await expect(missing.check()).rejects.toMatchObject({ kind: 'NoSuchBucket' });
    const unsigned = openBucket(testServer(), bucket, { credentials: 'anonymous' });
    await expect(unsigned.check()).rejects.toMatchObject({ kind: 'AccessDenied' });
  });

  it('keeps secrets out of errors', async () => {
    const secret = 'a-very-secret-string';
    const error = await open(keys.accessKeyId, secret)
      .check()
      .catch((caught: unknown) => caught);
    expect(inspect(error, { depth: 10, showHidden: true })).not.toMatch(/a-very-secret-string|Signature=|StringToSign/);
  });
});

describe('connections', () => {
  it('are kept and used again', async () => {
    const server = await startProxy({ upstream: proxy.endpoint });
    const through = openBucket({ ...testServer(), endpoint: server.endpoint }, bucket, { maxConnections: 2 });
    for (let n = 0; n < 5; n += 1) await readKey(through);
    expect(server.connections).toBe(1);
    await Promise.all(Array.from({ length: 10 }, () => readKey(through)));
    expect(server.connections).toBe(2);
    through.close();
    await server.stop();
  });
});
