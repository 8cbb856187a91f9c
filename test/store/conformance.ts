/** What every `ObjectStore` must do. Run on the one in memory and on S3. */
import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BodySource, ListPage, ListRequest, ObjectAttributes, ObjectStore } from '../../src/store/contract.ts';

export const PLAIN: ObjectAttributes = { metadata: {} };

export function bytesOf(content: string | Uint8Array): BodySource {
  const bytes = Buffer.from(content);
  return { sizeBytes: bytes.length, open: () => bytes };
}

export function streamOf(...chunks: string[]): BodySource {
  return {
    sizeBytes: Buffer.byteLength(chunks.join('')),
    async *open() {
      for (const chunk of chunks) yield Buffer.from(chunk);
    },
  };
}

export async function collect(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export async function read(store: ObjectStore, key: string): Promise<string> {
  return (await collect((await store.get(key)).body)).toString();
}

export async function pagesOf(store: ObjectStore, request: ListRequest): Promise<ListPage[]> {
  const pages: ListPage[] = [];
  for await (const page of store.list(request)) pages.push(page);
  return pages;
}

export async function keysOf(store: ObjectStore, request: ListRequest): Promise<string[]> {
  return (await pagesOf(store, request)).flatMap((page) => page.objects.map(({ key }) => key));
}

export function md5(content: string | Uint8Array, encoding: 'hex' | 'base64' = 'hex'): string {
  return createHash('md5').update(content).digest(encoding);
}

export const ODD_KEYS = [
  'plain.txt',
  'with space',
  ' leading and trailing ',
  'plus+and&amp;<xml>"quotes\'',
  'percent%41%zz%',
  'question?mark#hash',
  'ümläut/ß/日本語/🎉.png',
  'a//b',
  '/leading/slash',
  './dot/../dots',
  'colon:semi;comma,equals=at@dollar$',
  'paren(s)*star!~tilde',
  'back\\slash|pipe`^{}[]',
  'tab\tand\nnewline',
  'control\u0001character',
  `${'long/'.repeat(200)}name`,
];

const FULL: ObjectAttributes = {
  contentType: 'image/png',
  cacheControl: 'max-age=60',
  contentDisposition: 'inline; filename="a b.png"',
  contentEncoding: 'identity',
  contentLanguage: 'de',
  expires: 'Thu, 01 Dec 2033 16:00:00 GMT',
  metadata: {
    mode: '33188',
    mtime: '1700000000.123456789',
    title: 'Grüße 🎉 100%41',
    xattr: '%7B%22user.a%22%3A%22Yg%3D%3D%22%7D',
    spaces: '  around  ',
  },
};

/** `create` gives a store on an empty bucket. */
export function describeConformance(name: string, create: () => Promise<ObjectStore>): void {
  describe(`${name} conforms`, () => {
    let store: ObjectStore;
    beforeAll(async () => {
      store = await create();
    });
    afterAll(() => store.close());

    describe('objects', () => {
      it('gives back bytes, headers and metadata', async () => {
        const { etag } = await store.put('full', bytesOf('content'), { attributes: FULL });
        const { head, offset, lengthBytes, body } = await store.get('full');
        expect((await collect(body)).toString()).toBe('content');
        expect({ offset, lengthBytes }).toEqual({ offset: 0, lengthBytes: 7 });
        expect(head).toEqual({ ...FULL, etag, sizeBytes: 7, lastModifiedMs: expect.any(Number) });
        expect(etag).toBe(md5('content'));
        expect(head.lastModifiedMs % 1000).toBe(0);
        expect(await store.head('full')).toEqual(head);
      });

      it('lowers the case of metadata names', async () => {
        await store.put('case', bytesOf(''), { attributes: { metadata: { MixedCase: 'Value' } } });
        expect((await store.head('case')).metadata).toEqual({ mixedcase: 'Value' });
      });

      it('keeps empty objects', async () => {
        await store.put('empty', bytesOf(''), { attributes: PLAIN });
        expect(await read(store, 'empty')).toBe('');
        await store.put('empty', streamOf(), { attributes: PLAIN });
        expect(await store.head('empty')).toMatchObject({ sizeBytes: 0, etag: md5('') });
        await expect(store.get('empty', { range: { offset: 0, length: 1 } })).rejects.toMatchObject({
          kind: 'InvalidRange',
        });
      });

      it('replaces objects', async () => {
        await store.put('replaced', bytesOf('old content'), { attributes: FULL });
        await store.put('replaced', bytesOf('new'), { attributes: PLAIN });
        expect(await read(store, 'replaced')).toBe('new');
        expect((await store.head('replaced')).metadata).toEqual({});
      });

      it('takes streams', async () => {
        await store.put('stream', streamOf('ab', '', 'cde'), { attributes: PLAIN });
        expect(await read(store, 'stream')).toBe('abcde');
      });

      it('reports a source that fails, as it is, and stores nothing', async () => {
        const failing: BodySource = {
          sizeBytes: 10,
          async *open() {
            yield Buffer.from('abc');
            throw new RangeError('disk on fire');
          },
        };
        await expect(store.put('torn', failing, { attributes: PLAIN })).rejects.toThrow(RangeError);
        await expect(store.put('torn', { ...streamOf('abc'), sizeBytes: 4 }, { attributes: PLAIN })).rejects.toThrow(
          'bytes',
        );
        await expect(store.put('torn', { ...streamOf('abc'), sizeBytes: 2 }, { attributes: PLAIN })).rejects.toThrow(
          'bytes',
        );
        await expect(store.head('torn')).rejects.toMatchObject({ kind: 'NotFound' });
      });

      it('checks the MD5', async () => {
        const body = { ...bytesOf('summed'), md5: md5('summed', 'base64') };
        await store.put('summed', body, { attributes: PLAIN });
        await store.put('summed', { ...streamOf('sum', 'med'), md5: body.md5 }, { attributes: PLAIN });
        const wrong = { ...bytesOf('sUmmed'), md5: body.md5 };
        await expect(store.put('summed', wrong, { attributes: PLAIN })).rejects.toMatchObject({ kind: 'Corrupt' });
        expect(await read(store, 'summed')).toBe('summed');
      });

      it('reads ranges', async () => {
        await store.put('range', bytesOf('0123456789'), { attributes: PLAIN });
        const part = async (offset: number, length: number) => {
          const result = await store.get('range', { range: { offset, length } });
          const text = (await collect(result.body)).toString();
          expect(result).toMatchObject({ offset, lengthBytes: text.length, head: { sizeBytes: 10 } });
          return text;
        };
        expect(await part(0, 3)).toBe('012');
        expect(await part(3, 4)).toBe('3456');
        expect(await part(8, 100)).toBe('89');
        expect(await part(0, 10)).toBe('0123456789');
        await expect(store.get('range', { range: { offset: 10, length: 1 } })).rejects.toMatchObject({
          kind: 'InvalidRange',
        });
      });

      it('reads what is larger than any buffer', async () => {
        const bytes = randomBytes(3_000_000);
        await store.put('large', bytesOf(bytes), { attributes: PLAIN });
        expect(md5(await collect((await store.get('large')).body))).toBe(md5(bytes));
      });

      it('lets a body go unread', async () => {
        for (let round = 0; round < 3; round += 1) {
          const unread = (await store.get('large')).body[Symbol.asyncIterator]();
          await unread.return?.();
          for await (const chunk of (await store.get('large')).body) {
            expect(chunk.length).toBeGreaterThan(0);
            break;
          }
        }
        expect(await read(store, 'range')).toBe('0123456789');
      });

      it('reports what is missing', async () => {
        await expect(store.head('missing')).rejects.toMatchObject({ kind: 'NotFound' });
        await expect(store.get('missing')).rejects.toMatchObject({ kind: 'NotFound' });
        await expect(store.copy('missing', 'elsewhere')).rejects.toMatchObject({ kind: 'NotFound' });
        await store.delete('missing');
      });

      it('refuses keys that are too long', async () => {
        const key = 'k'.repeat(1025);
        await expect(store.put(key, bytesOf(''), { attributes: PLAIN })).rejects.toMatchObject({
          kind: 'InvalidRequest',
        });
      });

      it('stops at the signal', async () => {
        const signal = AbortSignal.abort();
        await expect(store.head('range', { signal })).rejects.toMatchObject({ kind: 'Aborted' });
        await expect(store.get('range', { signal })).rejects.toMatchObject({ kind: 'Aborted' });
        await expect(pagesOf(store, { prefix: '', signal })).rejects.toMatchObject({ kind: 'Aborted' });
        await expect(store.put('never', bytesOf(''), { attributes: PLAIN, signal })).rejects.toMatchObject({
          kind: 'Aborted',
        });
        const control = new AbortController();
        const { body } = await store.get('large', { signal: control.signal });
        const chunks = body[Symbol.asyncIterator]();
        await chunks.next();
        control.abort();
        const drain = async () => {
          while (!(await chunks.next()).done);
        };
        await expect(drain()).rejects.toMatchObject({ kind: 'Aborted' });
      });

      it('is there', async () => {
        await store.check();
        await store.check({ prefix: 'a/' });
        expect(store.description).not.toBe('');
      });
    });

    describe('conditions', () => {
      it('reads one version only', async () => {
        const { etag } = await store.put('version', bytesOf('1'), { attributes: PLAIN });
        expect((await collect((await store.get('version', { ifMatch: etag })).body)).toString()).toBe('1');
        await store.put('version', bytesOf('2'), { attributes: PLAIN });
        await expect(store.get('version', { ifMatch: etag })).rejects.toMatchObject({ kind: 'PreconditionFailed' });
        const range = { offset: 0, length: 1 };
        await expect(store.get('version', { ifMatch: etag, range })).rejects.toMatchObject({
          kind: 'PreconditionFailed',
        });
      });

      it('tells when nothing has changed', async () => {
        const { etag } = await store.put('same', bytesOf('1'), { attributes: PLAIN });
        await expect(store.head('same', { ifNoneMatch: etag })).rejects.toMatchObject({ kind: 'NotModified' });
        await expect(store.get('same', { ifNoneMatch: etag })).rejects.toMatchObject({ kind: 'NotModified' });
        expect((await store.head('same', { ifNoneMatch: md5('other') })).etag).toBe(etag);
      });

      it('creates only', async () => {
        await store.put('created', bytesOf('first'), { attributes: PLAIN, ifNoneMatch: '*' });
        const again = store.put('created', bytesOf('second'), { attributes: PLAIN, ifNoneMatch: '*' });
        await expect(again).rejects.toMatchObject({ kind: 'PreconditionFailed' });
        expect(await read(store, 'created')).toBe('first');
      });

      it('lets one of many creators win', async () => {
        const puts = Array.from({ length: 8 }, (_, n) =>
          store.put('race', bytesOf(`writer ${n}`), { attributes: PLAIN, ifNoneMatch: '*' }),
        );
        const outcomes = await Promise.allSettled(puts);
        expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      });
    });

    describe('copies', () => {
      it('keeps or replaces metadata', async () => {
        const { etag } = await store.put('copy/from', bytesOf('content'), { attributes: FULL });
        expect((await store.copy('copy/from', 'copy/kept')).etag).toBe(etag);
        expect(await store.head('copy/kept')).toMatchObject(FULL);
        await store.copy('copy/from', 'copy/replaced', {
          attributes: { contentType: 'text/css', metadata: { a: 'b' } },
        });
        const replaced = await store.head('copy/replaced');
        expect(replaced).toMatchObject({ contentType: 'text/css', metadata: { a: 'b' }, sizeBytes: 7 });
        expect(replaced.cacheControl).toBeUndefined();
      });

      it('changes metadata in place', async () => {
        await store.put('copy/self', bytesOf('content'), { attributes: FULL });
        const attributes = { contentType: 'text/plain', metadata: { mode: '33261' } };
        const { lastModifiedMs } = await store.copy('copy/self', 'copy/self', { attributes });
        expect(await store.head('copy/self')).toMatchObject(attributes);
        if (lastModifiedMs !== undefined) expect((await store.head('copy/self')).lastModifiedMs).toBe(lastModifiedMs);
        await expect(store.copy('copy/self', 'copy/self')).rejects.toMatchObject({ kind: 'InvalidRequest' });
      });
    });

    describe('keys', () => {
      it.each(ODD_KEYS.map((key) => [key.slice(0, 40), key]))('takes %j', async (_, key) => {
        await store.put(`odd/${key}`, bytesOf(key), { attributes: PLAIN });
        expect(await read(store, `odd/${key}`)).toBe(key);
        await store.copy(`odd/${key}`, `odd2/${key}`);
        expect(await read(store, `odd2/${key}`)).toBe(key);
        await store.delete(`odd2/${key}`);
        await expect(store.head(`odd2/${key}`)).rejects.toMatchObject({ kind: 'NotFound' });
      });

      it('lists and deletes all of them', async () => {
        const keys = ODD_KEYS.map((key) => `odd/${key}`).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
        expect(await keysOf(store, { prefix: 'odd/' })).toEqual(keys);
        expect(await store.deleteMany([...keys, 'odd/never there'])).toEqual([]);
        expect(await keysOf(store, { prefix: 'odd/' })).toEqual([]);
      });
    });

    describe('listings', () => {
      beforeAll(async () => {
        const keys = ['l/a', 'l/a/1', 'l/a/2', 'l/a.b', 'l/b/', 'l/b/c/d', 'l/z\u{1f389}', 'l/z\ufb01', 'm'];
        for (const key of keys) await store.put(key, bytesOf(key), { attributes: PLAIN });
      });

      it('is in order of bytes', async () => {
        const all = ['l/a', 'l/a.b', 'l/a/1', 'l/a/2', 'l/b/', 'l/b/c/d', 'l/z\ufb01', 'l/z\u{1f389}'];
        expect(await keysOf(store, { prefix: 'l/' })).toEqual(all);
        expect(await keysOf(store, { prefix: 'l/a' })).toEqual(['l/a', 'l/a.b', 'l/a/1', 'l/a/2']);
        expect(await keysOf(store, { prefix: 'nothing here' })).toEqual([]);
      });

      it('stops at the delimiter', async () => {
        const pages = await pagesOf(store, { prefix: 'l/', delimiter: '/' });
        expect(pages.flatMap(({ prefixes }) => prefixes)).toEqual(['l/a/', 'l/b/']);
        const keys = pages.flatMap(({ objects }) => objects.map(({ key }) => key));
        expect(keys).toEqual(['l/a', 'l/a.b', 'l/z\ufb01', 'l/z\u{1f389}']);
        const below = await pagesOf(store, { prefix: 'l/b/', delimiter: '/' });
        expect(below.flatMap(({ objects }) => objects.map(({ key }) => key))).toEqual(['l/b/']);
        expect(below.flatMap(({ prefixes }) => prefixes)).toEqual(['l/b/c/']);
      });

      it('tells of each object what HEAD tells', async () => {
        const [page] = await pagesOf(store, { prefix: 'm' });
        const { etag, sizeBytes, lastModifiedMs } = await store.head('m');
        expect(page?.objects).toEqual([{ key: 'm', etag, sizeBytes, lastModifiedMs }]);
      });

      it('keeps to a limit', async () => {
        expect(await keysOf(store, { prefix: 'l/', limit: 1 })).toEqual(['l/a']);
        expect(await keysOf(store, { prefix: 'l/', limit: 3 })).toEqual(['l/a', 'l/a.b', 'l/a/1']);
        const [page, ...more] = await pagesOf(store, { prefix: 'l/a', delimiter: '/', limit: 3 });
        expect(more).toEqual([]);
        expect(page?.prefixes).toEqual(['l/a/']);
      });

      it('begins behind a key', async () => {
        expect(await keysOf(store, { prefix: 'l/', after: 'l/a.b', limit: 2 })).toEqual(['l/a/1', 'l/a/2']);
        expect(await keysOf(store, { prefix: 'l/', after: 'l/b' })).toEqual([
          'l/b/',
          'l/b/c/d',
          'l/z\ufb01',
          'l/z\u{1f389}',
        ]);
        const [page] = await pagesOf(store, { prefix: 'l/', delimiter: '/', after: 'l/a' });
        expect(page?.objects.map(({ key }) => key)).toEqual(['l/a.b', 'l/z\ufb01', 'l/z\u{1f389}']);
        expect(page?.prefixes).toEqual(['l/a/', 'l/b/']);
        expect(await keysOf(store, { prefix: 'l/', after: 'm' })).toEqual([]);
      });

      it('goes on over many pages', async () => {
        const names = Array.from({ length: 1105 }, (_, n) => `many/${String(n).padStart(5, '0')}`);
        for (let at = 0; at < names.length; at += 20) {
          await Promise.all(names.slice(at, at + 20).map((key) => store.put(key, bytesOf(''), { attributes: PLAIN })));
        }
        expect(await keysOf(store, { prefix: 'many/' })).toEqual(names);
        const iterator = store.list({ prefix: 'many/' })[Symbol.asyncIterator]();
        await iterator.next();
        await iterator.return?.();
        expect((await iterator.next()).done).toBe(true);
        expect(await store.deleteMany(names.slice(0, 1000))).toEqual([]);
        expect(await keysOf(store, { prefix: 'many/' })).toEqual(names.slice(1000));
        await expect(store.deleteMany(names)).rejects.toMatchObject({ kind: 'InvalidRequest' });
      });
    });

    describe('multipart uploads', () => {
      const PART_BYTES = 5 * 2 ** 20;
      const first = randomBytes(PART_BYTES);

      it('makes one object of parts, sent and copied, in any order', async () => {
        await store.put('mp/source', bytesOf(first), { attributes: PLAIN });
        const upload = await store.createMultipart('mp/whole', { attributes: FULL });
        const tail = bytesOf('tail');
        const [third, one, two] = [
          await store.uploadPart(upload, 3, { ...tail, md5: md5('tail', 'base64') }),
          await store.uploadPart(upload, 1, bytesOf(first)),
          await store.copyPart(upload, 2, 'mp/source', { offset: 0, length: PART_BYTES }),
        ];
        const { etag } = await store.completeMultipart(upload, [one, two, third]);
        expect(etag).toMatch(/^[0-9a-f]{32}-3$/);
        const { head, body } = await store.get('mp/whole');
        expect(head).toMatchObject({ ...FULL, etag, sizeBytes: 2 * PART_BYTES + 4 });
        expect(md5(await collect(body))).toBe(md5(Buffer.concat([first, first, Buffer.from('tail')])));
      });

      it('leaves nothing when aborted, however often', async () => {
        const upload = await store.createMultipart('mp/aborted', { attributes: PLAIN });
        const part = await store.uploadPart(upload, 1, bytesOf('part'));
        await store.abortMultipart(upload);
        await store.abortMultipart(upload);
        // Not found, says S3; Ceph RGW takes it for one that is being completed, a passing reason.
        const complete = store.completeMultipart(upload, [part]);
        await expect(complete).rejects.toMatchObject({ kind: expect.stringMatching(/^(NotFound|Unavailable)$/) });
        await expect(store.uploadPart(upload, 2, bytesOf('x'))).rejects.toMatchObject({ kind: 'NotFound' });
        await expect(store.head('mp/aborted')).rejects.toMatchObject({ kind: 'NotFound' });
      });

      it('refuses parts that do not fit', async () => {
        const upload = await store.createMultipart('mp/bad', { attributes: PLAIN });
        const one = await store.uploadPart(upload, 1, bytesOf('small'));
        const two = await store.uploadPart(upload, 2, bytesOf('last'));
        const complete = (parts: { partNumber: number; etag: string }[]) => store.completeMultipart(upload, parts);
        await expect(complete([one, two])).rejects.toMatchObject({ kind: 'InvalidRequest' });
        await expect(complete([{ ...one, etag: md5('other') }])).rejects.toMatchObject({ kind: 'InvalidRequest' });
        await expect(complete([{ partNumber: 7, etag: one.etag }])).rejects.toMatchObject({ kind: 'InvalidRequest' });
        const wrong = { ...bytesOf('x'), md5: md5('y', 'base64') };
        await expect(store.uploadPart(upload, 1, wrong)).rejects.toMatchObject({ kind: 'Corrupt' });
        await store.abortMultipart(upload);
      });
    });
  });
}
