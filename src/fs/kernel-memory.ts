import type { NodeId } from '../base/ids.ts';

const PAGE_BITS = 32_768;

/**
 * Which nodes a kernel may still name: those it was told of and has not forgotten. For kernels whose open files are not counted. One bit for each
 * node, in pages that exist only where something differs from what was known at the start.
 */
export class KernelMemory {
  readonly #knownUpTo: number;
  readonly #pages = new Map<number, Uint32Array>();

  /** All nodes up to `knownUpTo` count as known. */
  constructor(knownUpTo = 0) {
    this.#knownUpTo = knownUpTo;
  }

  knows(id: NodeId): boolean {
    const word = this.#pages.get(Math.floor(id / PAGE_BITS))?.[(id % PAGE_BITS) >>> 5] ?? 0;
    return ((word & bit(id)) !== 0) !== id <= this.#knownUpTo;
  }

  note(id: NodeId): void {
    if (!this.knows(id)) this.#flip(id);
  }

  /**
   * How often the kernel was told of the node need not be counted: one without a name is found by no further lookup, and is forgotten with its last
   * user.
   */
  forget(id: NodeId): void {
    if (this.knows(id)) this.#flip(id);
  }

  #flip(id: NodeId): void {
    const number = Math.floor(id / PAGE_BITS);
    const page = this.#pages.get(number) ?? new Uint32Array(PAGE_BITS / 32);
    page[(id % PAGE_BITS) >>> 5] = (page[(id % PAGE_BITS) >>> 5] ?? 0) ^ bit(id);
    this.#pages.set(number, page);
  }
}

function bit(id: NodeId): number {
  return 1 << (id % 32);
}
