import { Semaphore } from '../base/semaphore.ts';
import { BLOCK_BYTES } from '../cache/contract.ts';

/** 16 MiB. More would wait for the disk in memory, where it can as well wait in the network. */
const BLOCKS_MAX = 64;

/** Memory for blocks on their way from the socket to the disk. To use it again costs nothing; to have it collected costs V8 more than the way. */
export class BlockPool {
  readonly #slots = new Semaphore(BLOCKS_MAX);
  readonly #spare: Buffer[] = [];

  /** Memory of BLOCK_BYTES, with anything in it. Waits for some; rejects with the signal's reason. */
  async take(signal: AbortSignal): Promise<Buffer> {
    await this.#slots.acquire(1, signal);
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(BLOCK_BYTES);
  }

  /** Once for each that was taken. undefined: somebody keeps it. */
  give(memory: Buffer | undefined): void {
    if (memory !== undefined) this.#spare.push(memory);
    this.#slots.release();
  }

  clear(): void {
    this.#spare.length = 0;
  }
}
