/** The targets of one run. One that fails is left out from then on, which is said, and the others go on. */
import type { Target } from './targets.ts';

export interface FieldOptions {
  readonly suite: string;
  readonly targets: readonly Target[];
  /** Ends the run. */
  readonly signal: AbortSignal;
  say(text: string): void;
}

const PROGRESS_EVERY_MS = 5_000;

export class Field {
  readonly #options: FieldOptions;
  readonly #failures = new Map<string, string>();
  #stepsPlanned = 0;
  #stepsDone = 0;
  #turns = 0;
  #startMs = performance.now();
  #saidMs = 0;

  constructor(options: FieldOptions) {
    this.#options = options;
  }

  /** Those that have not failed. */
  get targets(): readonly Target[] {
    return this.#options.targets.filter(({ name }) => !this.#failures.has(name));
  }

  /** Reasons, by name of the target. */
  get failures(): Readonly<Record<string, string>> {
    return Object.fromEntries(this.#failures);
  }

  /** So many steps follow, for each target: the base of "time left". */
  plan(stepsPerTarget: number): void {
    this.#stepsPlanned = stepsPerTarget * this.#options.targets.length;
    this.#stepsDone = 0;
    this.#startMs = performance.now();
  }

  /** One step with every target, one after the other; another one begins each time, as where somebody stands in the row shows. `what`: for the reader. */
  async each(what: string, step: (target: Target) => Promise<void>): Promise<void> {
    const { targets } = this.#options;
    const first = this.#turns++ % targets.length;
    for (const target of [...targets.slice(first), ...targets.slice(0, first)]) {
      this.#progress(what, target);
      if (!this.#failures.has(target.name)) await this.#attempt(what, target, step);
      this.#stepsDone += 1;
    }
  }

  say(text: string): void {
    this.#options.say(`${this.#options.suite}: ${text}`);
    this.#saidMs = performance.now();
  }

  async #attempt(what: string, target: Target, step: (target: Target) => Promise<void>): Promise<void> {
    try {
      await step(target);
      this.#options.signal.throwIfAborted();
    } catch (error) {
      this.#options.signal.throwIfAborted();
      const reason = error instanceof Error ? error.message : String(error);
      this.#failures.set(target.name, `${what}: ${reason}`);
      this.say(`${target.name} FAILED, left out from here on: ${what}: ${reason}`);
    }
  }

  #progress(what: string, target: Target): void {
    const nowMs = performance.now();
    if (nowMs - this.#saidMs < PROGRESS_EVERY_MS) return;
    const leftMs = ((nowMs - this.#startMs) / this.#stepsDone) * (this.#stepsPlanned - this.#stepsDone);
    const left = Number.isFinite(leftMs) && leftMs > 0 ? `, about ${formatDuration(leftMs)} left` : '';
    this.say(`${what}: ${target.name}${left}`);
  }
}

export function formatDuration(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  return seconds < 100 ? `${seconds} s` : `${Math.ceil(seconds / 60)} min`;
}
