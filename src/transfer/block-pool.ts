import { Semaphore } from '../base/semaphore.ts';
import { BLOCK_BYTES } from '../cache/contract.ts';

/** TypeScript has its types only together with those of browsers. */
declare const WebAssembly: {
  readonly Memory: new (size: { readonly initial: number }) => { readonly buffer: ArrayBuffer };
};

/** 40 MiB: what one sequential reader has before it, and some for others. */
const BLOCKS_MAX = 160;
const WASM_PAGE_BYTES = 64 * 1024;
/** For so long nobody needed any: it goes back to the system. */
const IDLE_MS = 5000;

/** The memory of one block. Who uses it holds it, and the last one gives it back. */
export class BlockMemory {
  readonly bytes: Uint8Array;
  /** As O_DIRECT wants it. */
  readonly isPageAligned: boolean;
  readonly #onFree: () => void;
  #holds = 1;

  constructor(bytes: Uint8Array, isPageAligned: boolean, onFree: () => void) {
    this.bytes = bytes;
    this.isPageAligned = isPageAligned;
    this.#onFree = onFree;
  }

  hold(): void {
    this.#holds += 1;
  }

  release(): void {
    this.#holds -= 1;
    if (this.#holds === 0) this.#onFree();
  }
}

/**
 * Memory for blocks on their way from the socket to the disk and to their readers. To use it again costs nothing; to have it collected costs V8
 * more than the way.
 */
export class BlockPool {
  readonly #slots = new Semaphore(BLOCKS_MAX);
  /** Ways to get memory back that is kept for readers who may come; oldest first. */
  readonly #spare = new Set<() => void>();
  #waiting = 0;
  #memory: Memory | undefined;
  #idle: NodeJS.Timeout | undefined;

  /** Waits for some; rejects with the signal's reason. */
  async take(signal: AbortSignal): Promise<BlockMemory> {
    if (!this.#slots.tryAcquire()) await this.#wait(signal);
    clearTimeout(this.#idle);
    this.#memory ??= allocate();
    const { buffer, isPageAligned, free } = this.#memory;
    const index = free.pop() as number;
    return new BlockMemory(new Uint8Array(buffer, index * BLOCK_BYTES, BLOCK_BYTES), isPageAligned, () => {
      free.push(index);
      this.#slots.release();
      if (this.#slots.used === 0) this.#rest();
    });
  }

  /** Nobody needs the memory any more, but somebody may soon. `drop` is called when others need it. */
  spare(drop: () => void): void {
    this.#spare.add(drop);
    if (this.#waiting > 0) this.#dropOldest();
  }

  /** It was dropped otherwise. */
  unspare(drop: () => void): void {
    this.#spare.delete(drop);
  }

  close(): void {
    clearTimeout(this.#idle);
  }

  async #wait(signal: AbortSignal): Promise<void> {
    this.#waiting += 1;
    try {
      const turn = this.#slots.acquire(1, signal);
      this.#dropOldest();
      await turn;
    } finally {
      this.#waiting -= 1;
    }
  }

  #dropOldest(): void {
    const [drop] = this.#spare;
    if (drop === undefined) return;
    this.#spare.delete(drop);
    drop();
  }

  #rest(): void {
    this.#idle = setTimeout(() => {
      this.#memory = undefined;
    }, IDLE_MS).unref();
  }
}

interface Memory {
  readonly buffer: ArrayBuffer;
  readonly isPageAligned: boolean;
  /** Blocks of it; the last one was used last. */
  readonly free: number[];
}

/** What V8 gives to WebAssembly begins at a page, and is taken from the system as it is used. It reserves gigabytes of addresses, which a process may not have. */
function allocate(): Memory {
  const free = Array.from({ length: BLOCKS_MAX }, (_, index) => BLOCKS_MAX - 1 - index);
  const sizeBytes = BLOCKS_MAX * BLOCK_BYTES;
  try {
    const { buffer } = new WebAssembly.Memory({ initial: sizeBytes / WASM_PAGE_BYTES });
    return { buffer, isPageAligned: true, free };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return { buffer: new ArrayBuffer(sizeBytes), isPageAligned: false, free };
  }
}
