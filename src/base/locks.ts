/** Runs tasks of one key one after the other, in order of arrival. Keys are independent; an idle key costs nothing. */
export class KeyedLock<K> {
  readonly #tails = new Map<K, Promise<unknown>>();

  async run<T>(key: K, task: () => Promise<T> | T): Promise<T> {
    const before = this.#tails.get(key);
    const turn = before === undefined ? Promise.resolve().then(task) : before.then(task, task);
    this.#tails.set(key, turn);
    try {
      return await turn;
    } finally {
      if (this.#tails.get(key) === turn) this.#tails.delete(key);
    }
  }

  /** Takes several keys at once, in their sort order, so that two holders never wait for each other. */
  async runAll<T>(keys: readonly (K & (number | string))[], task: () => Promise<T> | T): Promise<T> {
    const ordered = [...new Set(keys)].sort((a, b) => (a < b ? -1 : 1));
    const take = (position: number): Promise<T> | T =>
      position === ordered.length ? task() : this.run(ordered[position] as K, () => take(position + 1));
    return await take(0);
  }
}

/** Calls for one key that come while an earlier one runs share its result. */
export class SingleFlight<K, T> {
  readonly #running = new Map<K, Promise<T>>();

  run(key: K, task: () => Promise<T>): Promise<T> {
    const running = this.#running.get(key);
    if (running !== undefined) return running;
    const started = task().finally(() => this.#running.delete(key));
    this.#running.set(key, started);
    return started;
  }
}

/** Many may hold it shared, or one alone. Waiting for the exclusive hold stops new shared holders, so that it cannot starve. */
export class SharedLock {
  #sharedHolders = 0;
  #exclusive: Promise<void> | undefined;
  #whenIdle: (() => void) | undefined;

  async shared<T>(task: () => Promise<T>): Promise<T> {
    while (this.#exclusive !== undefined) await this.#exclusive;
    this.#sharedHolders += 1;
    try {
      return await task();
    } finally {
      this.#sharedHolders -= 1;
      if (this.#sharedHolders === 0) this.#whenIdle?.();
    }
  }

  async exclusive<T>(task: () => Promise<T>): Promise<T> {
    while (this.#exclusive !== undefined) await this.#exclusive;
    let finish: () => void = () => {};
    this.#exclusive = new Promise<void>((resolve) => {
      finish = resolve;
    });
    try {
      if (this.#sharedHolders > 0) {
        await new Promise<void>((resolve) => {
          this.#whenIdle = resolve;
        });
      }
      return await task();
    } finally {
      this.#whenIdle = undefined;
      this.#exclusive = undefined;
      finish();
    }
  }
}
