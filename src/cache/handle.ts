import type { ContentId } from '../base/ids.ts';
import type { Content } from './content.ts';
import type { CachedContent } from './contract.ts';

/** One reference on a content; giving it back twice is harmless. */
export class Handle implements CachedContent {
  readonly #content: Content;
  readonly #release: () => void;
  #isOpen = true;

  constructor(content: Content, release: () => void) {
    this.#content = content;
    this.#release = release;
  }

  get id(): ContentId {
    return this.#content.id;
  }

  get sizeBytes(): number {
    return this.#content.sizeBytes;
  }

  get blockCount(): number {
    return this.#content.blockCount;
  }

  get isComplete(): boolean {
    return this.#content.isComplete;
  }

  has(block: number): boolean {
    return this.#content.has(block);
  }

  put(block: number, bytes: Uint8Array, isPageAligned = false): Promise<boolean> {
    return this.#content.put(block, bytes, isPageAligned);
  }

  slice(offset: number, lengthBytes: number) {
    return this.#content.slice(offset, lengthBytes);
  }

  whole(mayBeUnchecked: boolean) {
    return this.#content.whole(mayBeUnchecked);
  }

  moveOut(path: string, fd: number): Promise<boolean> {
    return this.#content.moveOut(path, fd);
  }

  discard(): void {
    this.#content.discard();
  }

  close(): void {
    if (this.#isOpen) this.#release();
    this.#isOpen = false;
  }
}
