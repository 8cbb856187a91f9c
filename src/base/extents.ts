/** A half-open byte range `[start, end)`. */
export interface Extent {
  readonly start: number;
  readonly end: number;
}

/**
 * A set of byte positions, kept as sorted, disjoint, non-adjacent extents. Every operation is O(number of extents) at
 * worst; files written front to back have one.
 */
export class Extents {
  #list: Extent[];

  constructor(list: readonly Extent[] = []) {
    this.#list = [];
    for (const extent of list) this.add(extent.start, extent.end);
  }

  get list(): readonly Extent[] {
    return this.#list;
  }

  get isEmpty(): boolean {
    return this.#list.length === 0;
  }

  /** Number of positions in the set. */
  get sizeBytes(): number {
    return this.#list.reduce((sum, extent) => sum + extent.end - extent.start, 0);
  }

  add(start: number, end: number): void {
    if (end <= start) return;
    const last = this.#list.at(-1);
    if (last === undefined || start > last.end) {
      this.#list.push({ start, end });
      return;
    }
    // The first extent that touches [start, end], and the first after it that does not.
    let from = this.#list.length;
    while (from > 0 && (this.#list[from - 1] as Extent).end >= start) from -= 1;
    let to = from;
    let merged = { start, end };
    for (; to < this.#list.length; to += 1) {
      const extent = this.#list[to] as Extent;
      if (extent.start > end) break;
      merged = { start: Math.min(merged.start, extent.start), end: Math.max(merged.end, extent.end) };
    }
    this.#list.splice(from, to - from, merged);
  }

  remove(start: number, end: number): void {
    if (end <= start) return;
    this.#list = this.#list.flatMap((extent) => {
      if (extent.end <= start || extent.start >= end) return [extent];
      const rest: Extent[] = [];
      if (extent.start < start) rest.push({ start: extent.start, end: start });
      if (extent.end > end) rest.push({ start: end, end: extent.end });
      return rest;
    });
  }

  covers(start: number, end: number): boolean {
    return end <= start || this.#list.some((extent) => extent.start <= start && extent.end >= end);
  }

  overlaps(start: number, end: number): boolean {
    return end > start && this.#list.some((extent) => extent.start < end && extent.end > start);
  }

  /** The parts of `[start, end)` that are not in the set. */
  missing(start: number, end: number): Extent[] {
    const gaps: Extent[] = [];
    let position = start;
    for (const extent of this.#list) {
      if (extent.end <= position) continue;
      if (extent.start >= end) break;
      if (extent.start > position) gaps.push({ start: position, end: extent.start });
      position = extent.end;
    }
    if (position < end) gaps.push({ start: position, end });
    return gaps;
  }

  clear(): void {
    this.#list = [];
  }
}
