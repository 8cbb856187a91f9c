/** Who takes the names of a large directory in order, as readdir gives them, though its listing has expired: `ls -l`, rsync, a backup. */
import type { NodeId } from '../base/ids.ts';
import { RecentMap } from '../base/recent-map.ts';

/** So many names asked for in order of their keys: somebody walks the directory. */
const STEPS_BEFORE_PAGE = 4;
/** So many times as many after each page that did not reach the name that was asked for: the store may not know `start-after`. */
const STEPS_GROWTH = 4;

interface Walk {
  /** The name asked for last, or how far a page has vouched for names. */
  readonly name: string;
  readonly steps: number;
  /** Before a page is asked for. */
  readonly needed: number;
  readonly atMs: number;
}

export class Steps {
  readonly #forgetMs: number;
  readonly #walks: RecentMap<NodeId, Walk>;

  /** `forgetMs`: between two names of one walk. `maxDirectories`: walked at the same time. */
  constructor(forgetMs: number, maxDirectories: number) {
    this.#forgetMs = forgetMs;
    this.#walks = new RecentMap(maxDirectories);
  }

  /** A name has to be asked for. After some in order: the name behind which a page of the listing vouches for it and for those that follow. */
  note(directory: NodeId, name: string, nowMs: number): string | undefined {
    const last = this.#walks.get(directory);
    const isNext = last !== undefined && last.name < name && nowMs - last.atMs < this.#forgetMs;
    const needed = last?.needed ?? STEPS_BEFORE_PAGE;
    const steps = isNext ? last.steps + 1 : 0;
    this.#walks.set(directory, { name, steps, needed, atMs: nowMs });
    return isNext && steps >= needed ? last.name : undefined;
  }

  /** That page vouches for names up to this one. */
  notePage(directory: NodeId, name: string, nowMs: number): void {
    this.#walks.set(directory, { name, steps: STEPS_BEFORE_PAGE, needed: STEPS_BEFORE_PAGE, atMs: nowMs });
  }

  /** It did not reach the name that was asked for. */
  noteUselessPage(directory: NodeId): void {
    const last = this.#walks.get(directory);
    if (last !== undefined) this.#walks.set(directory, { ...last, steps: 0, needed: last.needed * STEPS_GROWTH });
  }
}
