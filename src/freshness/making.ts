/** How many names are made in each directory: in spans of a fixed length, the one that runs and the one before it. */
import type { NodeId } from '../base/ids.ts';
import { RecentMap } from '../base/recent-map.ts';

interface Span {
  /** Since the epoch of the clock, in spans. */
  readonly number: number;
  readonly count: number;
  readonly countBefore: number;
}

export class Making {
  readonly #spanMs: number;
  readonly #spans: RecentMap<NodeId, Span>;

  constructor(spanMs: number, maxDirectories: number) {
    this.#spanMs = Math.max(1, spanMs);
    this.#spans = new RecentMap(maxDirectories);
  }

  note(directory: NodeId, nowMs: number): void {
    const span = this.#at(directory, nowMs);
    this.#spans.set(directory, { ...span, count: span.count + 1 });
  }

  /** Names made in one span: this one, if it has more already than the one before. */
  rate(directory: NodeId, nowMs: number): number {
    const { count, countBefore } = this.#at(directory, nowMs);
    return Math.max(count, countBefore);
  }

  #at(directory: NodeId, nowMs: number): Span {
    const number = Math.floor(nowMs / this.#spanMs);
    const span = this.#spans.get(directory);
    if (span?.number === number) return span;
    return { number, count: 0, countBefore: span?.number === number - 1 ? span.count : 0 };
  }
}
