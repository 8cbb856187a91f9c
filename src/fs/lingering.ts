import type { NodeId } from '../base/ids.ts';
import type { OpenFile, OpenFiles } from './open-files.ts';

const MAX_FILES = 256;
const LINGER_MS = 5000;

/**
 * Keeps files in use for a while after each read. A kernel that does not say what is open sends READ alone; without this every one of them would
 * open the content anew, and read-ahead would not know what came before.
 */
export class Lingering {
  readonly #openFiles: OpenFiles;
  /** In order of their last read. */
  readonly #files = new Map<NodeId, { readonly file: OpenFile; readonly untilMs: number }>();
  readonly #timer: NodeJS.Timeout;

  constructor(openFiles: OpenFiles) {
    this.#openFiles = openFiles;
    this.#timer = setInterval(() => this.#endUntil(performance.now()), LINGER_MS / 2);
    this.#timer.unref();
  }

  /** For a file that is in use. */
  keep(file: OpenFile): void {
    const kept = this.#files.get(file.id);
    if (kept === undefined) file.inFlight += 1;
    this.#files.delete(file.id);
    this.#files.set(file.id, { file, untilMs: performance.now() + LINGER_MS });
    if (this.#files.size > MAX_FILES) this.#endOldest();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#endUntil(Number.POSITIVE_INFINITY);
  }

  #endUntil(nowMs: number): void {
    for (const { untilMs } of this.#files.values()) {
      if (untilMs > nowMs) return;
      this.#endOldest();
    }
  }

  #endOldest(): void {
    for (const { file } of this.#files.values()) {
      this.#files.delete(file.id);
      this.#openFiles.endUse(file);
      return;
    }
  }
}
