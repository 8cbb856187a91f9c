/** One bucket, used past the mount: what another tool, a plugin or an administrator does. */
import type { ObjectHead, ObjectStore } from '../../src/store/contract.ts';
import { freshBucket, openBucket, testServer } from '../support/buckets.ts';

export interface PutOptions {
  readonly metadata?: Readonly<Record<string, string>>;
  readonly contentType?: string;
}

export class TestBucket {
  readonly name: string;
  readonly #store: ObjectStore;

  constructor(name: string, store: ObjectStore) {
    this.name = name;
    this.#store = store;
  }

  static async create(): Promise<TestBucket> {
    const name = await freshBucket(testServer(), 'mounted');
    return new TestBucket(name, openBucket(testServer(), name));
  }

  async put(key: string, content: string | Uint8Array, options: PutOptions = {}): Promise<void> {
    const bytes = typeof content === 'string' ? Buffer.from(content) : content;
    const { metadata = {}, contentType = 'application/octet-stream' } = options;
    const body = { sizeBytes: bytes.length, open: () => bytes };
    await this.#store.put(key, body, { attributes: { contentType, metadata } });
  }

  async bytes(key: string): Promise<Buffer> {
    const { body } = await this.#store.get(key);
    const pieces: Uint8Array[] = [];
    for await (const piece of body) pieces.push(piece);
    return Buffer.concat(pieces);
  }

  async text(key: string): Promise<string> {
    return (await this.bytes(key)).toString();
  }

  head(key: string): Promise<ObjectHead> {
    return this.#store.head(key);
  }

  delete(key: string): Promise<void> {
    return this.#store.delete(key);
  }

  async keys(prefix = ''): Promise<string[]> {
    const keys: string[] = [];
    for await (const { objects } of this.#store.list({ prefix })) keys.push(...objects.map(({ key }) => key));
    return keys;
  }

  close(): void {
    this.#store.close();
  }
}
