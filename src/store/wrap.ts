/** What the decorators share: one function goes around every request of a store. */
import type { Cancelable, ListPage, ListRequest, ObjectStore } from './contract.ts';

export type Operation = Exclude<keyof ObjectStore, 'description' | 'close'>;

export interface Call {
  readonly operation: Operation;
  /** The key, the prefix of a listing, or what else names the request in a log. */
  readonly key: string;
  readonly signal: AbortSignal | undefined;
}

/** Runs `attempt` once, more often, or not at all. */
export type Around = <T>(call: Call, attempt: () => Promise<T>) => Promise<T>;

/** Each page of a listing is one call. */
export function wrapStore(inner: ObjectStore, around: Around): ObjectStore {
  const call = (operation: Operation, key: string, request: Cancelable | undefined): Call => ({
    operation,
    key,
    signal: request?.signal,
  });
  return {
    description: inner.description,
    head: (key, request) => around(call('head', key, request), () => inner.head(key, request)),
    get: (key, request) => around(call('get', key, request), () => inner.get(key, request)),
    put: (key, body, request) => around(call('put', key, request), () => inner.put(key, body, request)),
    copy: (from, to, request) => around(call('copy', to, request), () => inner.copy(from, to, request)),
    delete: (key, request) => around(call('delete', key, request), () => inner.delete(key, request)),
    deleteMany: (keys, request) =>
      around(call('deleteMany', `${keys.length} keys`, request), () => inner.deleteMany(keys, request)),
    list: (request) => wrapListing(inner, request, around),
    createMultipart: (key, request) =>
      around(call('createMultipart', key, request), () => inner.createMultipart(key, request)),
    uploadPart: (upload, partNumber, body, request) =>
      around(call('uploadPart', upload.key, request), () => inner.uploadPart(upload, partNumber, body, request)),
    copyPart: (upload, partNumber, from, range, request) =>
      around(call('copyPart', upload.key, request), () => inner.copyPart(upload, partNumber, from, range, request)),
    completeMultipart: (upload, parts, request) =>
      around(call('completeMultipart', upload.key, request), () => inner.completeMultipart(upload, parts, request)),
    abortMultipart: (upload, request) =>
      around(call('abortMultipart', upload.key, request), () => inner.abortMultipart(upload, request)),
    check: (request) => around(call('check', '', request), () => inner.check(request)),
    close: () => inner.close(),
  };
}

function wrapListing(inner: ObjectStore, request: ListRequest, around: Around): AsyncIterable<ListPage> {
  return {
    [Symbol.asyncIterator]() {
      const pages = inner.list(request)[Symbol.asyncIterator]();
      const call: Call = { operation: 'list', key: request.prefix, signal: request.signal };
      return {
        next: () => around(call, () => pages.next()),
        return: async () => (await pages.return?.()) ?? { done: true, value: undefined },
      };
    },
  };
}
