import { StoreError } from '../store/contract.ts';

export function abortedError(): StoreError {
  return new StoreError('Aborted', 'the caller gave up');
}

/** Waits for the promise, or until this caller gives up (`Aborted`); the work behind the promise goes on for others. */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  if (signal.aborted) {
    // Its failure is for those who still wait.
    promise.catch(() => {});
    throw abortedError();
  }
  let abort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(abortedError());
    signal.addEventListener('abort', abort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
