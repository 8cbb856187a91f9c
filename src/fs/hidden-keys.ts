/** Objects that no name of a mount leads to: their keys are no file names, or a directory has their name. */
import { LRUCache } from 'lru-cache';
import type { NodeId } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';

/** Directories remembered: those that hide something are few, unless somebody wants them to be many. */
const DIRECTORIES_MAX = 10_000;
/** Said of so many directories; the others are only counted. */
const WARNINGS_MAX = 100;
/** Of a key, in a log line. */
const SAMPLE_CHARACTERS = 200;

export interface HiddenHere {
  /** Keys that are no file names. */
  readonly skipped: number;
  /** Files that a directory of the same name hides. */
  readonly shadowed: number;
  /** One of these keys. */
  readonly sample: string | undefined;
}

export class HiddenKeys {
  readonly #log: Logger;
  /** What the last listing of each directory hid. Invariant: no entry without hidden keys. */
  readonly #directories: LRUCache<NodeId, HiddenHere>;
  #total = 0;
  #warnings = 0;

  constructor(log: Logger) {
    this.#log = log;
    this.#directories = new LRUCache({
      max: DIRECTORIES_MAX,
      dispose: ({ skipped, shadowed }) => {
        this.#total -= skipped + shadowed;
      },
    });
  }

  /** In the directories that were listed, each as its last listing told. */
  get total(): number {
    return this.#total;
  }

  /** Whether there are keys below the directory that it does not show. A file that it hides itself lies beside it. */
  isHidingBelow(directory: NodeId): boolean {
    return (this.#directories.get(directory)?.skipped ?? 0) > 0;
  }

  /** After a whole listing. */
  note(directory: NodeId, hidden: HiddenHere): void {
    const isNew = !this.#directories.has(directory);
    if (hidden.skipped + hidden.shadowed === 0) {
      this.#directories.delete(directory);
      return;
    }
    this.#directories.set(directory, hidden);
    this.#total += hidden.skipped + hidden.shadowed;
    if (!isNew || this.#warnings >= WARNINGS_MAX) return;
    this.#warnings += 1;
    const { skipped, shadowed } = hidden;
    // Control characters in a terminal may do anything.
    const sample = JSON.stringify(hidden.sample?.slice(0, SAMPLE_CHARACTERS) ?? '');
    this.#log.warn({ skipped, shadowed, sample }, 'objects are not shown: their keys cannot be file names here');
  }
}
