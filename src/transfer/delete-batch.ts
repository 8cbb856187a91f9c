import { Semaphore } from '../base/semaphore.ts';
import { isStoreError, type ObjectStore } from '../store/contract.ts';

const WINDOW_MS = 3;
/** Where nobody waits for it, a request that holds more is worth more than an early one. */
const PATIENT_WINDOW_MS = 200;
/** S3's bound of one DeleteObjects request. */
export const BATCH_KEYS = 1000;
const PARALLEL = 8;
/** While so many batches are under way, further keys gather for the next one: it gets larger instead of more. */
const BATCHES_PARALLEL = 2;

interface Waiter {
  readonly key: string;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Deletes that come within a few milliseconds share one request, and more of them where nobody waits. */
export class DeleteBatcher {
  readonly #store: ObjectStore;
  readonly #slots = new Semaphore(PARALLEL);
  #waiters: Waiter[] = [];
  #timer: NodeJS.Timeout | undefined;
  #isPatient = false;
  #batches = 0;
  /** False once the store refused a batch. */
  #canBatch = true;

  constructor(store: ObjectStore) {
    this.#store = store;
  }

  /** Rejects with the StoreError of this key. `isPatient`: whoever asked does not wait. */
  delete(key: string, isPatient = false): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ key, resolve, reject });
      if (this.#waiters.length >= BATCH_KEYS) this.#flush();
      else this.#flushSoon(isPatient);
    });
  }

  /** Somebody waits now for what was asked for with patience. */
  hurry(): void {
    if (this.#isPatient && this.#timer !== undefined) this.#flushSoon(false);
  }

  #flushSoon(isPatient: boolean): void {
    if (this.#isPatient && !isPatient) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
    }
    if (this.#timer !== undefined) return;
    this.#isPatient = isPatient;
    this.#timer = setTimeout(() => this.#flush(), isPatient ? PATIENT_WINDOW_MS : WINDOW_MS);
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#isPatient = false;
    if (this.#batches >= BATCHES_PARALLEL && this.#waiters.length < BATCH_KEYS) return;
    const waiters = this.#waiters;
    this.#waiters = [];
    this.#batches += 1;
    void this.#send(waiters)
      .catch((error: unknown) => {
        for (const waiter of waiters) waiter.reject(error);
      })
      .finally(() => {
        this.#batches -= 1;
        // Those whose time was over when no request could be made; others still gather.
        if (this.#waiters.length > 0 && this.#timer === undefined) this.#flush();
      });
  }

  async #send(waiters: readonly Waiter[]): Promise<void> {
    if (waiters.length > 1 && this.#canBatch) {
      if (await this.#slots.run(() => this.#sendBatch(waiters))) return;
      this.#canBatch = false;
    }
    await Promise.all(waiters.map((waiter) => this.#slots.run(() => this.#sendOne(waiter))));
  }

  /** False: the store has no batches. */
  async #sendBatch(waiters: readonly Waiter[]): Promise<boolean> {
    const keys = [...new Set(waiters.map(({ key }) => key))];
    try {
      const failures = new Map((await this.#store.deleteMany(keys)).map(({ key, error }) => [key, error]));
      for (const { key, resolve, reject } of waiters) {
        const error = failures.get(key);
        if (error === undefined) resolve();
        else reject(error);
      }
      return true;
    } catch (error) {
      if (isStoreError(error, 'NotSupported')) return false;
      throw error;
    }
  }

  async #sendOne({ key, resolve, reject }: Waiter): Promise<void> {
    await this.#store.delete(key).then(resolve, reject);
  }
}
