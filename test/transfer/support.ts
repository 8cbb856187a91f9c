import {
  type GetRequest,
  type GetResult,
  type ObjectAttributes,
  type ObjectBody,
  type ObjectStore,
  StoreError,
} from '../../src/store/contract.ts';

export const PLAIN: ObjectAttributes = { metadata: {} };

export type Operation = Exclude<keyof ObjectStore, 'description' | 'close'>;

export interface Call {
  readonly operation: Operation;
  readonly args: readonly unknown[];
}

export interface Spy {
  readonly store: ObjectStore;
  readonly calls: Call[];
  /** Runs before a call; may wait, or throw instead of the store. */
  before: (call: Call) => Promise<void> | void;
  /** May change what a GET answers. */
  onGet: (result: GetResult, request: GetRequest) => GetResult;
  count(operation: Operation): number;
  /** Bytes that GETs asked for. */
  requestedBytes(): number;
}

/** Counts the calls of a store, and lets tests delay and break them. */
export function spyOn(inner: ObjectStore): Spy {
  const calls: Call[] = [];
  const spy: Spy = {
    calls,
    before: () => {},
    onGet: (result) => result,
    count: (operation) => calls.filter((call) => call.operation === operation).length,
    requestedBytes: () => {
      const gets = calls.filter((call) => call.operation === 'get').map((call) => call.args[1] as GetRequest);
      return gets.reduce((sum, { range }) => sum + (range?.length ?? 0), 0);
    },
    store: new Proxy(inner, {
      get(target, name) {
        const value = Reflect.get(target, name, target) as unknown;
        if (typeof value !== 'function' || name === 'close') return value;
        const operation = name as Operation;
        if (operation === 'list') {
          return (...args: unknown[]) => {
            calls.push({ operation, args });
            return value.apply(target, args);
          };
        }
        return async (...args: unknown[]) => {
          const call = { operation, args };
          calls.push(call);
          await spy.before(call);
          const result: unknown = await value.apply(target, args);
          return operation === 'get' ? spy.onGet(result as GetResult, (args[1] ?? {}) as GetRequest) : result;
        };
      },
    }),
  };
  return spy;
}

/** The same answer with another body. */
export function withBody(
  result: GetResult,
  change: (body: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>,
): GetResult {
  return { ...result, body: change(result.body) };
}

/** Breaks off after so many bytes. */
export async function* tornAfter(body: AsyncIterable<Uint8Array>, lengthBytes: number): AsyncGenerator<Uint8Array> {
  let rest = lengthBytes;
  for await (const chunk of body) {
    yield chunk.subarray(0, rest);
    rest -= Math.min(rest, chunk.length);
    if (rest === 0) throw new StoreError('Transport', 'torn');
  }
}

/** As the transport for many bytes has it: they come into memory that the reader brings. */
export function filling(body: AsyncIterable<Uint8Array>): ObjectBody {
  const chunks = body[Symbol.asyncIterator]();
  let chunk: Uint8Array = new Uint8Array(0);
  const fill = async (target: Uint8Array) => {
    for (let filled = 0; filled < target.length; ) {
      if (chunk.length === 0) {
        const { value, done } = await chunks.next();
        if (done) throw new StoreError('Transport', 'the body ended early');
        chunk = value;
      }
      const taken = chunk.subarray(0, target.length - filled);
      target.set(taken, filled);
      filled += taken.length;
      chunk = chunk.subarray(taken.length);
    }
  };
  return { [Symbol.asyncIterator]: () => chunks as AsyncIterableIterator<Uint8Array>, fill };
}

/** Changes the first byte. */
export async function* damaged(body: AsyncIterable<Uint8Array>, value: number): AsyncGenerator<Uint8Array> {
  let isFirst = true;
  for await (const chunk of body) {
    const copy = Uint8Array.from(chunk);
    if (isFirst) copy[0] = (copy[0] ?? 0) ^ value;
    isFirst = false;
    yield copy;
  }
}

/** The store with some of its operations replaced. */
export function replacing(inner: ObjectStore, operations: Partial<ObjectStore>): ObjectStore {
  return new Proxy(inner, {
    get(target, name) {
      const value: unknown = Reflect.get(name in operations ? operations : target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
