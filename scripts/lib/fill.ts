/** Many objects at once. */
import { type ObjectStore, StoreError } from '../../src/store/contract.ts';

/** Content by path, relative to the root of the mount. */
export type Files = ReadonlyMap<string, Uint8Array>;

const PARALLEL_UPLOADS = 16;
const MAX_BATCH = 1000;

export async function fillBucket(store: ObjectStore, files: Files, prefix = '', signal?: AbortSignal): Promise<void> {
  // One iterator for all uploads: each takes the next file.
  const queue = files.entries();
  const upload = async () => {
    for (const [path, bytes] of queue) {
      const body = { sizeBytes: bytes.length, open: () => bytes };
      await store.put(`${prefix}${path}`, body, { attributes: { metadata: {} }, ...(signal && { signal }) });
    }
  };
  await Promise.all(Array.from({ length: PARALLEL_UPLOADS }, upload));
}

/** Deletes what is below the prefix, which must end with a slash. */
export async function clearPrefix(store: ObjectStore, prefix: string): Promise<void> {
  if (!/[^/]\/$/.test(prefix)) throw new Error(`not a prefix to clear: "${prefix}"`);
  const keys: string[] = [];
  for await (const page of store.list({ prefix })) keys.push(...page.objects.map(({ key }) => key));
  for (let start = 0; start < keys.length; start += MAX_BATCH) {
    const [failure] = await store.deleteMany(keys.slice(start, start + MAX_BATCH));
    if (failure !== undefined) throw new StoreError(failure.error.kind, `cannot delete ${failure.key}`);
  }
}
