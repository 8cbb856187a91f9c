import type { LentBody } from './file-body.ts';
import type { Part } from './parts.ts';

type Load = (parts: readonly Part[], signal: AbortSignal) => Promise<readonly LentBody[]>;

/**
 * The bodies of one upload's parts. Several are read at a time, as those that are hashed together cost little more than one, and a group
 * ahead of being sent, so that the network does not wait for the digests.
 */
export class PartBodies {
  readonly #groups: readonly (readonly Part[])[];
  readonly #groupOf: ReadonlyMap<Part, number>;
  readonly #load: Load;
  /** Read or being read, and not taken. */
  readonly #ready = new Map<Part, Promise<LentBody>>();
  #begun = 0;

  constructor(parts: readonly Part[], groupSize: number, load: Load) {
    const count = Math.ceil(parts.length / groupSize);
    this.#groups = Array.from({ length: count }, (_, i) => parts.slice(i * groupSize, (i + 1) * groupSize));
    this.#groupOf = new Map(this.#groups.flatMap((group, i) => group.map((part) => [part, i])));
    this.#load = load;
  }

  /** Once for each part, in their order. Who takes a body releases it. */
  async take(part: Part, signal: AbortSignal): Promise<LentBody> {
    const wanted = (this.#groupOf.get(part) ?? 0) + 2;
    while (this.#begun < Math.min(wanted, this.#groups.length)) this.#begin(signal);
    const body = this.#ready.get(part);
    if (body === undefined) throw new Error(`part ${part.partNumber} was taken before`);
    this.#ready.delete(part);
    return body;
  }

  /** When nobody takes any more: resolves once nothing reads the file. */
  async close(): Promise<void> {
    for (const result of await Promise.allSettled(this.#ready.values())) {
      if (result.status === 'fulfilled') result.value.release(true);
    }
    this.#ready.clear();
  }

  #begin(signal: AbortSignal): void {
    const group = this.#groups[this.#begun] ?? [];
    this.#begun += 1;
    const loading = this.#load(group, signal);
    for (const [i, part] of group.entries()) {
      const body = loading.then((bodies) => bodies[i] as LentBody);
      // Whoever takes it, or `close`, sees the failure.
      body.catch(() => {});
      this.#ready.set(part, body);
    }
  }
}
