/**
 * What was begun with names and is not done in the bucket: worked on in the background, with growing pauses, until it is. Meanwhile the
 * bucket still shows what is gone here (or is going to be), so nobody may look at those keys, and nobody may write to them.
 */
import type { FsContext } from './context.ts';
import { isRefusal } from './errors.ts';

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;

/** What the bucket shows and must not be seen: one key, or everything below a prefix, with or without the directory itself. */
export type Hidden =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'key'; readonly key: string }
  | { readonly kind: 'tree'; readonly prefix: string; readonly isDirectoryThere: boolean };

export interface Chore {
  readonly intent: number;
  readonly hidden: Hidden;
  /** Brings the intent to its end, and removes it. May be repeated. When the bucket refuses for good, the intent is removed all the same. */
  readonly attempt: () => Promise<void>;
}

export interface BacklogFailure {
  readonly name: string;
  readonly error: string;
}

/** A chore while it is worked on. */
class Pursuit {
  readonly chore: Chore;
  /** Resolves when it is done, given up or ended; never rejects. */
  readonly done: Promise<void>;
  readonly #context: FsContext;
  /** The attempt that runs, or the next one. */
  #attempt = Promise.withResolvers<void>();
  #wake: () => void = () => undefined;
  #isEnded = false;

  constructor(context: FsContext, chore: Chore, delayMs: number) {
    this.#context = context;
    this.chore = chore;
    this.done = this.#run(delayMs);
  }

  /** Tries at once when it is pausing. Rejects with the reason when that attempt fails. */
  settle(): Promise<void> {
    const { promise } = this.#attempt;
    this.#wake();
    this.#context.mover.hurryDeletes();
    return promise;
  }

  /** The journal is going to be closed. */
  end(): void {
    this.#isEnded = true;
    this.#wake();
  }

  async #run(delayMs: number): Promise<void> {
    if (delayMs > 0) await this.#pause(delayMs);
    for (let pauseMs = FIRST_PAUSE_MS; !this.#isEnded; pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2)) {
      try {
        await this.chore.attempt();
        return this.#attempt.resolve();
      } catch (error) {
        if (this.#isEnded || this.#isOver(error)) return this.#attempt.resolve();
        // Told to who waits; nobody may.
        this.#attempt.promise.catch(() => undefined);
        this.#attempt.reject(error);
        this.#attempt = Promise.withResolvers<void>();
      }
      await this.#pause(pauseMs);
    }
    this.#attempt.resolve();
  }

  #isOver(error: unknown): boolean {
    const { journal, log } = this.#context;
    const { intent, hidden } = this.chore;
    if (!isRefusal(error)) {
      log.error({ ...hidden, error: String(error) }, 'could not be done in the bucket yet');
      journal.fail(intent, String(error));
      return false;
    }
    log.error({ ...hidden, error: String(error) }, 'the bucket refuses; names are as it has them');
    journal.done(intent);
    return true;
  }

  async #pause(pauseMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, pauseMs).unref();
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = () => undefined;
  }
}

export class Backlog {
  readonly #context: FsContext;
  readonly #pursuits = new Map<number, Pursuit>();
  readonly #byKey = new Map<string, Pursuit>();
  /** Few, and few at a time: the trees. */
  readonly #trees = new Set<Pursuit>();

  constructor(context: FsContext) {
    this.#context = context;
  }

  /** Whether somebody works on it. */
  has(intent: number): boolean {
    return this.#pursuits.has(intent);
  }

  /** Whether the bucket may still have something under this key (a file's; of a directory without the slash) that is gone here. */
  isPending(key: string): boolean {
    if (this.#byKey.has(key)) return true;
    for (const { chore } of this.#trees) if (hides(chore.hidden, key)) return true;
    return false;
  }

  /** Resolves when the intent is done, or rejects with the reason of the attempt that fails. */
  async settle(intent: number): Promise<void> {
    await this.#pursuits.get(intent)?.settle();
  }

  /** Resolves when the key may be written to, or rejects with what is in the way. Never call it within the key gate. */
  async settled(key: string): Promise<void> {
    await this.#byKey.get(key)?.settle();
    for (const pursuit of this.#trees) if (hides(pursuit.chore.hidden, key)) await pursuit.settle();
  }

  /** The same for everything below a prefix. */
  async settledBelow(prefix: string): Promise<void> {
    const keys = [...this.#byKey].filter(([key]) => key.startsWith(prefix)).map(([, pursuit]) => pursuit);
    const trees = [...this.#trees].filter(({ chore }) => overlaps(chore.hidden, prefix));
    await Promise.all([...keys, ...trees].map((pursuit) => pursuit.settle()));
  }

  /** Goes on until it is done. Resolves then; never rejects. `delayMs`: until the first attempt. */
  pursue(chore: Chore, delayMs: number): Promise<void> {
    const pursuit = new Pursuit(this.#context, chore, delayMs);
    const { intent, hidden } = chore;
    this.#pursuits.set(intent, pursuit);
    if (hidden.kind === 'key') this.#byKey.set(hidden.key, pursuit);
    if (hidden.kind === 'tree') this.#trees.add(pursuit);
    return pursuit.done.then(() => {
      if (this.#pursuits.get(intent) === pursuit) this.#pursuits.delete(intent);
      this.#trees.delete(pursuit);
      if (hidden.kind === 'key' && this.#byKey.get(hidden.key) === pursuit) this.#byKey.delete(hidden.key);
    });
  }

  /** The journal is going to be closed; what is not done stays in it. */
  close(): void {
    for (const pursuit of this.#pursuits.values()) pursuit.end();
  }

  /** Tries everything once more, now. Resolves with what still fails. */
  async drain(): Promise<readonly BacklogFailure[]> {
    const failures: BacklogFailure[] = [];
    const settle = async ({ chore: { hidden, intent } }: Pursuit, settled: Promise<void>) => {
      const name = hidden.kind === 'key' ? hidden.key : hidden.kind === 'tree' ? hidden.prefix : `intent ${intent}`;
      await settled.catch((error: unknown) => failures.push({ name, error: String(error) }));
    };
    await Promise.all([...this.#pursuits.values()].map((pursuit) => settle(pursuit, pursuit.settle())));
    return failures;
  }
}

function hides(hidden: Hidden, key: string): boolean {
  if (hidden.kind !== 'tree') return false;
  const directory = `${key}/`;
  if (directory === hidden.prefix) return !hidden.isDirectoryThere;
  return directory.startsWith(hidden.prefix);
}

function overlaps(hidden: Hidden, prefix: string): boolean {
  return hidden.kind === 'tree' && (hidden.prefix.startsWith(prefix) || prefix.startsWith(hidden.prefix));
}
