interface Hold {
  readonly start: number;
  readonly end: number;
  readonly released: Promise<void>;
}

/** Runs tasks on overlapping byte ranges one after the other, in order of arrival; others at the same time. */
export class RangeLock {
  readonly #holds = new Set<Hold>();

  async run<T>(start: number, end: number, task: () => Promise<T> | T): Promise<T> {
    // Holds that still wait count too: nobody overtakes, and since everyone waits for earlier ones only, nobody waits in a circle.
    const before = [...this.#holds].filter((hold) => hold.start < end && hold.end > start);
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const hold = { start, end, released };
    this.#holds.add(hold);
    try {
      if (before.length > 0) await Promise.all(before.map((earlier) => earlier.released));
      return await task();
    } finally {
      this.#holds.delete(hold);
      release();
    }
  }
}
