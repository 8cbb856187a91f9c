/** Answers of a store that is broken or means harm: each is a result or a StoreError, soon and in bounded memory. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { isStoreError, type ObjectStore } from '../../src/store/contract.ts';
import { S3Store } from '../../src/store/s3.ts';
import { fuzzRuns } from '../support/fuzz.ts';

interface Answer {
  readonly status: number;
  readonly body: Buffer | (() => Generator<Buffer>);
}

const MIB = 2 ** 20;

let answer: Answer = { status: 200, body: Buffer.alloc(0) };
let server: Server;
let store: ObjectStore;

beforeAll(async () => {
  server = createServer((request, response) => {
    request.resume();
    response.writeHead(answer.status, { 'content-type': 'application/xml' });
    if (Buffer.isBuffer(answer.body)) {
      response.end(answer.body);
      return;
    }
    const pieces = answer.body();
    const send = () => {
      for (let piece = pieces.next(); !piece.done; piece = pieces.next()) {
        if (!response.write(piece.value)) {
          response.once('drain', send);
          return;
        }
      }
      response.end();
    };
    send();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const credentials = { accessKeyId: 'key', secretAccessKey: 'secret' };
  store = new S3Store({ endpoint, bucket: 'bucket', pathStyle: true, credentials });
});

afterAll(async () => {
  store.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

const BODY = { sizeBytes: 1, open: () => Buffer.of(1) };
const UPLOAD = { key: 'key', uploadId: 'upload' };
const ETAG = '0123456789abcdef0123456789abcdef';

const OPERATIONS: Readonly<Record<string, () => Promise<unknown>>> = {
  list: async () => {
    for await (const { objects, prefixes } of store.list({ prefix: '', limit: 10 })) {
      for (const { key, etag, sizeBytes, lastModifiedMs } of objects) {
        expect([typeof key, typeof etag]).toEqual(['string', 'string']);
        expect(Number.isSafeInteger(sizeBytes) && sizeBytes >= 0 && Number.isSafeInteger(lastModifiedMs)).toBe(true);
      }
      for (const prefix of prefixes) expect(typeof prefix).toBe('string');
    }
  },
  copy: () => store.copy('from', 'to'),
  deleteMany: () => store.deleteMany(['a', 'b']),
  createMultipart: () => store.createMultipart('key', { attributes: { metadata: {} } }),
  uploadPart: () => store.uploadPart(UPLOAD, 1, BODY),
  copyPart: () => store.copyPart(UPLOAD, 1, 'from', { offset: 0, length: 1 }),
  completeMultipart: () => store.completeMultipart(UPLOAD, [{ partNumber: 1, etag: ETAG }]),
  put: () => store.put('key', BODY, { attributes: { metadata: {} } }),
  get: async () => {
    for await (const _ of (await store.get('key')).body);
  },
  check: () => store.check(),
};

async function settles(name: string): Promise<void> {
  try {
    await OPERATIONS[name]?.();
  } catch (error) {
    if (!isStoreError(error)) throw error;
    expect(error.message.length).toBeLessThan(2000);
  }
}

const SAMPLES = [
  `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name><Prefix/>
  <EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken><Contents><Key>a%2Fb</Key>
  <LastModified>2020-01-01T00:00:00.000Z</LastModified><ETag>&quot;${ETAG}&quot;</ETag><Size>5</Size></Contents><CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes></ListBucketResult>`,
  `<CopyObjectResult><LastModified>2020-01-01T00:00:00Z</LastModified><ETag>"${ETAG}"</ETag></CopyObjectResult>`,
  '<DeleteResult><Error><Key>a</Key><Code>InternalError</Code><Message>m</Message></Error><Deleted><Key>b</Key></Deleted></DeleteResult>',
  '<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>u</UploadId></InitiateMultipartUploadResult>',
  `<CopyPartResult><LastModified>2020-01-01T00:00:00Z</LastModified><ETag>"${ETAG}"</ETag></CopyPartResult>`,
  `<CompleteMultipartUploadResult><Location>l</Location><ETag>"${ETAG}-1"</ETag></CompleteMultipartUploadResult>`,
  '<Error><Code>SlowDown</Code><Message>m</Message><Region>eu-west-1</Region><RequestId>r</RequestId></Error>',
];

const PIECES = [
  ...[
    '<',
    '>',
    '/>',
    '</Contents>',
    '<Contents>',
    '<Key>',
    '<Size>-1</Size>',
    '<Size>1e308</Size>',
    '<Size>NaN</Size>',
    '&amp;',
    '&#0;',
    '&#x10FFFF;',
  ],
  ...[
    '&nope;',
    '&#99999999999;',
    '<!--',
    '-->',
    '<![CDATA[',
    ']]>',
    '<?pi',
    '<!DOCTYPE x [<!ENTITY e "e">]>',
    '&e;',
    '__proto__',
    'constructor',
    '\0',
  ],
  ...[
    '<__proto__>x</__proto__>',
    '<ETag/>',
    '<Contents a="b" c=\'d\'/>',
    '<LastModified>never</LastModified>',
    '%',
    '%ff',
    '%00',
    '\ufeff',
    'é',
    '🙂',
  ],
];

/** A sample with pieces of it cut out, repeated, or replaced. */
const mutated = fc
  .record({
    sample: fc.constantFrom(...SAMPLES),
    changes: fc.array(
      fc.record({
        at: fc.nat(),
        length: fc.nat(40),
        text: fc.oneof(fc.constantFrom(...PIECES), fc.string({ maxLength: 20 })),
      }),
      { maxLength: 6 },
    ),
  })
  .map(({ sample, changes }) => {
    let text = sample;
    for (const { at, length, text: piece } of changes) {
      const position = at % (text.length + 1);
      text = text.slice(0, position) + piece + text.slice(position + length);
    }
    return Buffer.from(text);
  });

const body = fc.oneof(
  { weight: 6, arbitrary: mutated },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)) },
  { weight: 1, arbitrary: mutated.map((bytes) => Buffer.from(bytes.toString('latin1'), 'utf16le')) },
);

const status = fc.constantFrom(200, 200, 200, 206, 204, 301, 400, 403, 404, 412, 500, 503);

test('mutated answers', { timeout: 3_600_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...Object.keys(OPERATIONS)), status, body, async (name, code, bytes) => {
      answer = { status: code, body: bytes };
      await settles(name);
    }),
    fuzzRuns(1500),
  );
  expect(Object.keys(Object.prototype)).toEqual([]);
});

const BOMBS: Readonly<Record<string, string>> = {
  'deep nesting': `<ListBucketResult>${'<a>'.repeat(200_000)}${'</a>'.repeat(200_000)}</ListBucketResult>`,
  'tags that never end': '<ListBucketResult>'.repeat(100_000),
  'a huge name': `<${'n'.repeat(5 * MIB)}/>`,
  'many attributes': `<ListBucketResult ${'a="b" '.repeat(100_000)}/>`,
  'billion laughs': `<!DOCTYPE l [<!ENTITY a "${'ha'.repeat(100)}">${[...'bcdefghij'].map((name, index) => `<!ENTITY ${name} "${`&${'abcdefghij'[index]};`.repeat(10)}">`).join('')}]><ListBucketResult><Name>&j;</Name></ListBucketResult>`,
  'an external entity':
    '<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]><ListBucketResult><Contents><Key>&x;</Key><ETag>e</ETag><Size>1</Size></Contents></ListBucketResult>',
  'many entities': `<ListBucketResult><Name>${'&amp;'.repeat(1_000_000)}</Name></ListBucketResult>`,
};

test.each(Object.keys(BOMBS))('%s', { timeout: 120_000 }, async (bomb) => {
  for (const code of [200, 403]) {
    answer = { status: code, body: Buffer.from(BOMBS[bomb] as string) };
    const beforeBytes = process.memoryUsage().rss;
    for (const name of ['list', 'copy', 'deleteMany', 'completeMultipart']) await settles(name);
    expect(process.memoryUsage().rss - beforeBytes).toBeLessThan(600 * MIB);
  }
});

test.each(['list', 'copy', 'deleteMany', 'completeMultipart', 'get'])('an answer without an end: %s', async (name) => {
  for (const code of [200, 500]) {
    if (name === 'get' && code === 200) continue; // An object may be of any size.
    let sentBytes = 0;
    const piece = Buffer.alloc(MIB, '<a>b</a>');
    const endless = function* () {
      for (; sentBytes < 2 ** 34; sentBytes += piece.length) yield piece;
    };
    answer = { status: code, body: endless };
    await expect(OPERATIONS[name]?.()).rejects.toSatisfy((error) => isStoreError(error, 'Transport', 'Unavailable'));
    expect(sentBytes).toBeLessThan(256 * MIB);
  }
});
