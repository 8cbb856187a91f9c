/** What must be undone at the end, in reverse order. (Node 22 has no AsyncDisposableStack.) */
export class Teardown {
  readonly #actions: (() => unknown)[] = [];

  defer(action: () => unknown): void {
    this.#actions.push(action);
  }

  /** One failure does not keep the rest from being undone; all failures are given to `onError`. */
  async run(onError: (error: unknown) => void): Promise<void> {
    for (let action = this.#actions.pop(); action !== undefined; action = this.#actions.pop()) {
      try {
        await action();
      } catch (error) {
        onError(error);
      }
    }
  }
}
