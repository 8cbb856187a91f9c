import { createHash } from 'node:crypto';
import {
  type BodySource,
  type CopyRequest,
  type GetRequest,
  type GetResult,
  type ListPage,
  type ListRequest,
  type MultipartUpload,
  type ObjectHead,
  type ObjectStore,
  type PartResult,
  type PutRequest,
  type PutResult,
  StoreError,
} from '../../src/store/contract.ts';

interface Obj {
  bytes: Buffer;
  head: ObjectHead;
}
async function collect(body: BodySource) {
  const b = body.open();
  if (b instanceof Uint8Array) return Buffer.from(b);
  const l: Uint8Array[] = [];
  for await (const c of b) l.push(c);
  return Buffer.concat(l);
}
export class TinyStore implements ObjectStore {
  description = 'tiny';
  objects = new Map<string, Obj>();
  uploads = new Map<string, { key: string; req: PutRequest; parts: Map<number, Buffer> }>();
  n = 0;
  #get(key: string): Obj {
    const o = this.objects.get(key);
    if (!o) throw new StoreError('NotFound', key);
    return o;
  }
  #put(
    key: string,
    bytes: Buffer,
    req: Pick<PutRequest, 'attributes' | 'ifNoneMatch'>,
    etag = createHash('md5').update(bytes).digest('hex'),
  ): PutResult {
    if (req.ifNoneMatch && this.objects.has(key)) throw new StoreError('PreconditionFailed', key);
    this.objects.set(key, { bytes, head: { ...req.attributes, etag, sizeBytes: bytes.length, lastModifiedMs: 1000 } });
    return { etag };
  }
  async head(key: string) {
    return this.#get(key).head;
  }
  async get(key: string, r: GetRequest = {}): Promise<GetResult> {
    const o = this.#get(key);
    if (r.ifMatch && r.ifMatch !== o.head.etag) throw new StoreError('PreconditionFailed', key);
    const off = r.range?.offset ?? 0;
    if (r.range && off >= o.bytes.length) throw new StoreError('InvalidRange', key);
    const bytes = r.range ? o.bytes.subarray(off, off + r.range.length) : o.bytes;
    return {
      head: o.head,
      offset: off,
      lengthBytes: bytes.length,
      body: (async function* () {
        for (let a = 0; a < bytes.length; a += 65536) {
          await new Promise((f) => setImmediate(f));
          if (r.signal?.aborted) throw new StoreError('Aborted', '');
          yield bytes.subarray(a, a + 65536);
        }
      })(),
    };
  }
  async put(key: string, body: BodySource, r: PutRequest) {
    const b = await collect(body);
    if (body.md5 && createHash('md5').update(b).digest('base64') !== body.md5) throw new StoreError('Corrupt', key);
    return this.#put(key, b, r);
  }
  async copy(f: string, t: string, r: CopyRequest = {}) {
    const o = this.#get(f);
    if (r.ifMatch && r.ifMatch !== o.head.etag) throw new StoreError('PreconditionFailed', f);
    return this.#put(t, o.bytes, { attributes: r.attributes ?? o.head });
  }
  async delete(key: string) {
    this.objects.delete(key);
  }
  async deleteMany(keys: readonly string[]) {
    for (const k of keys) this.objects.delete(k);
    return [];
  }
  async *list(r: ListRequest): AsyncGenerator<ListPage> {
    const keys = [...this.objects.keys()].filter((k) => k.startsWith(r.prefix)).sort();
    for (let a = 0; a < keys.length; a += 1000)
      yield {
        prefixes: [],
        objects: keys.slice(a, a + 1000).map((key) => {
          const h = this.#get(key).head;
          return { key, etag: h.etag, sizeBytes: h.sizeBytes, lastModifiedMs: h.lastModifiedMs };
        }),
      };
  }
  async createMultipart(key: string, req: PutRequest) {
    const uploadId = String(++this.n);
    this.uploads.set(uploadId, { key, req, parts: new Map() });
    return { key, uploadId };
  }
  #part(u: MultipartUpload, n: number, b: Buffer): PartResult {
    const up = this.uploads.get(u.uploadId);
    if (!up) throw new StoreError('NotFound', 'upload');
    up.parts.set(n, b);
    return { partNumber: n, etag: createHash('md5').update(b).digest('hex') };
  }
  async uploadPart(u: MultipartUpload, n: number, body: BodySource) {
    return this.#part(u, n, await collect(body));
  }
  async copyPart(
    u: MultipartUpload,
    n: number,
    f: string,
    range: { offset: number; length: number },
    r: { ifMatch?: string } = {},
  ) {
    const o = this.#get(f);
    if (r.ifMatch && r.ifMatch !== o.head.etag) throw new StoreError('PreconditionFailed', f);
    return this.#part(u, n, o.bytes.subarray(range.offset, range.offset + range.length));
  }
  async completeMultipart(u: MultipartUpload, parts: readonly PartResult[]) {
    const up = this.uploads.get(u.uploadId);
    if (!up) throw new StoreError('NotFound', 'upload');
    const bs = parts.map((p) => up.parts.get(p.partNumber) as Buffer);
    bs.slice(0, -1).forEach((b) => {
      if (b.length < 5 * 2 ** 20) throw new StoreError('InvalidRequest', 'EntityTooSmall');
    });
    this.uploads.delete(u.uploadId);
    const h = createHash('md5');
    for (const b of bs) h.update(createHash('md5').update(b).digest());
    return this.#put(u.key, Buffer.concat(bs), up.req, `${h.digest('hex')}-${bs.length}`);
  }
  async abortMultipart(u: MultipartUpload) {
    this.uploads.delete(u.uploadId);
  }
  async check() {}
  close() {}
}
