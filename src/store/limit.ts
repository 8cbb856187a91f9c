import { Semaphore } from '../base/semaphore.ts';
import { onceEnded } from './body.ts';
import { type GetResult, type ObjectStore, StoreError } from './contract.ts';
import { type Around, wrapStore } from './wrap.ts';

/**
 * At most so many requests at once, first come, first served. A GET counts until its body ends or is given up, so a body must
 * be read even when it is not wanted: by leaving the loop, or `return()` before the first chunk.
 */
export function limitStore(inner: ObjectStore, maxInFlight: number): ObjectStore {
  const slots = new Semaphore(maxInFlight);
  const acquire = async (key: string, signal: AbortSignal | undefined) => {
    try {
      await slots.acquire(1, signal);
    } catch (error) {
      if (signal?.aborted) throw new StoreError('Aborted', `${key}: given up while waiting for a free connection`);
      throw error;
    }
  };
  const around: Around = async (call, attempt) => {
    await acquire(call.key, call.signal);
    try {
      return await attempt();
    } finally {
      slots.release();
    }
  };
  return {
    ...wrapStore(inner, around),
    get: async (key, request) => {
      await acquire(key, request?.signal);
      let result: GetResult;
      try {
        result = await inner.get(key, request);
      } catch (error) {
        slots.release();
        throw error;
      }
      return { ...result, body: onceEnded(result.body, () => slots.release()) };
    },
  };
}
