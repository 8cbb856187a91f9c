/**
 * Memory for bodies of uploads, used again and again: what comes fresh from the system is filled with zeros first, which costs as much as
 * reading the file, and V8 collects garbage for each that is allocated. Shared, so that threads fill it without it being handed over.
 */
export class PartMemory {
  readonly #limitBytes: number;
  #free: SharedArrayBuffer[] = [];
  #freeBytes = 0;

  /** `limitBytes`: kept at most, without a user. */
  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /** At least so much, and less than twice as much. */
  take(sizeBytes: number): SharedArrayBuffer {
    const index = this.#free.findIndex(({ byteLength }) => byteLength >= sizeBytes && byteLength < 2 * sizeBytes);
    if (index < 0) {
      this.#drop(sizeBytes);
      return new SharedArrayBuffer(sizeBytes);
    }
    const [memory] = this.#free.splice(index, 1) as [SharedArrayBuffer];
    this.#freeBytes -= memory.byteLength;
    return memory;
  }

  /** Nobody may use it any more. */
  give(memory: SharedArrayBuffer): void {
    if (this.#freeBytes + memory.byteLength > this.#limitBytes) return;
    this.#free.push(memory);
    this.#freeBytes += memory.byteLength;
  }

  /** Of other sizes, so that what is kept comes in the place of what is used, and not on top of it. */
  #drop(sizeBytes: number): void {
    let dropped = 0;
    while (dropped < sizeBytes && this.#free.length > 0) dropped += this.#free.shift()?.byteLength ?? 0;
    this.#freeBytes -= dropped;
  }

  clear(): void {
    this.#free = [];
    this.#freeBytes = 0;
  }
}
