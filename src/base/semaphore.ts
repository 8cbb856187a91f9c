interface Waiter {
  readonly amount: number;
  readonly resolve: () => void;
}

/** A counted resource (requests, bytes of memory), handed out first come, first served. */
export class Semaphore {
  readonly capacity: number;
  #used = 0;
  readonly #waiters = new Set<Waiter>();

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get used(): number {
    return this.#used;
  }

  /** Never overtakes somebody who waits. */
  tryAcquire(amount = 1): boolean {
    if (this.#waiters.size > 0 || this.#used + amount > this.capacity) return false;
    this.#used += amount;
    return true;
  }

  /** More than the capacity counts as the capacity would, were it all of it: such a caller runs alone. Rejects with the signal's reason. */
  async acquire(amount = 1, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.tryAcquire(amount)) return;
    if (amount > this.capacity && this.#used === 0 && this.#waiters.size === 0) {
      this.#used += amount;
      return;
    }
    await this.#wait(amount, signal);
  }

  release(amount = 1): void {
    this.#used -= amount;
    this.#admit();
  }

  async run<T>(task: () => Promise<T>, amount = 1, signal?: AbortSignal): Promise<T> {
    await this.acquire(amount, signal);
    try {
      return await task();
    } finally {
      this.release(amount);
    }
  }

  #wait(amount: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = () => {
        this.#waiters.delete(waiter);
        reject(signal?.reason);
        this.#admit();
      };
      const waiter: Waiter = {
        amount,
        resolve: () => {
          signal?.removeEventListener('abort', abort);
          resolve();
        },
      };
      signal?.addEventListener('abort', abort, { once: true });
      this.#waiters.add(waiter);
    });
  }

  #admit(): void {
    for (const waiter of this.#waiters) {
      if (this.#used > 0 && this.#used + waiter.amount > this.capacity) return;
      this.#waiters.delete(waiter);
      this.#used += waiter.amount;
      waiter.resolve();
    }
  }
}
