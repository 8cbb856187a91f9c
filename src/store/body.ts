import type { ObjectBody } from './contract.ts';

/**
 * The same chunks; `release` is called exactly once, when they end, fail or are given up. A generator's `finally` would not do:
 * it does not run when the generator is given up before its first chunk.
 */
export function onceEnded(body: ObjectBody, release: () => void): ObjectBody {
  const { fill } = body;
  const chunks = body[Symbol.asyncIterator]();
  let isEnded = false;
  const end = () => {
    if (isEnded) return;
    isEnded = true;
    release();
  };
  const iterator: AsyncIterableIterator<Uint8Array> & ObjectBody = {
    fill,
    [Symbol.asyncIterator]: () => iterator,
    async next() {
      try {
        const step = await chunks.next();
        if (step.done) end();
        return step;
      } catch (error) {
        end();
        throw error;
      }
    },
    async return() {
      try {
        await chunks.return?.();
      } finally {
        end();
      }
      return { done: true, value: undefined };
    },
  };
  return iterator;
}
