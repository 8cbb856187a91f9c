/**
 * Fills in, in the background, the metadata that listings do not give: one HEAD for each node that somebody looked at. Bounded in
 * length and in parallelism; what finds no room is asked for when it is looked at again.
 */
import type { NodeId } from '../base/ids.ts';
import type { FsContext } from './context.ts';
import { isOutage } from './errors.ts';
import type { Resolver } from './resolver.ts';

const MAX_WAITING = 2000;
const MAX_RUNNING = 8;
/** Whoever walks a directory (`ls -l`) is let through first: the requests begin when nobody has looked for so long. */
const QUIET_MS = 100;

export class Completer {
  readonly #context: FsContext;
  readonly #resolver: Resolver;
  readonly #waiting = new Set<NodeId>();
  #running = 0;
  #isClosed = false;
  #lastWantedAtMs = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(context: FsContext, resolver: Resolver) {
    this.#context = context;
    this.#resolver = resolver;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  want(id: NodeId): void {
    if (this.#isClosed || this.#waiting.size >= MAX_WAITING) return;
    this.#waiting.add(id);
    this.#lastWantedAtMs = this.#context.clock.monotonicMs();
    this.#timer ??= setTimeout(() => this.#start(), QUIET_MS);
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#waiting.clear();
  }

  #start(): void {
    const quietMs = this.#context.clock.monotonicMs() - this.#lastWantedAtMs;
    const isQuiet = quietMs >= QUIET_MS || this.#waiting.size >= MAX_WAITING;
    this.#timer = isQuiet ? undefined : setTimeout(() => this.#start(), QUIET_MS - quietMs);
    while (isQuiet && this.#running < MAX_RUNNING && this.#running < this.#waiting.size) void this.#work();
  }

  async #work(): Promise<void> {
    this.#running += 1;
    for (const id of this.#waiting) {
      this.#waiting.delete(id);
      await this.#completeOne(id);
    }
    this.#running -= 1;
  }

  async #completeOne(id: NodeId): Promise<void> {
    const before = this.#context.index.nodes.get(id);
    if (before === undefined || before.complete || before.parent === undefined) return;
    try {
      const after = await this.#resolver.complete(before);
      // Another node took the name (another version, or a listing cannot tell a symbolic link from a file): the kernel must look again.
      if (after.id !== id) this.#context.notifier.invalidateEntry(before.parent, before.name);
    } catch (error) {
      const level = isOutage(error) ? 'debug' : 'warn';
      this.#context.log[level]({ error: String(error), name: before.name }, 'metadata could not be read');
    }
  }
}
