/** Recognises sequential readers among the reads of one content. Pure: numbers in, ranges out. */
import { BLOCK_BYTES } from '../cache/contract.ts';

/** Readers of one content that are told apart. */
const STREAMS_MAX = 8;
/** Reads arrive out of order, as the kernel reads ahead in parallel: each may be so many of its own lengths too early or too late. */
const SLACK_READS = 4;
/** Adjacent reads before anything is read ahead: one neighbour may be chance. */
const HITS_BEFORE_AHEAD = 2;
const FIRST_WINDOW_BYTES = 512 * 1024;

interface Stream {
  nextOffset: number;
  hits: number;
  windowBytes: number;
  /** Read ahead up to here. */
  aheadOffset: number;
}

export interface AheadRange {
  readonly start: number;
  readonly end: number;
}

export class ReadAhead {
  /** Most recently used last. */
  readonly #streams: Stream[] = [];

  /** Notes a read; returns what should be fetched beyond it now, if anything. The window doubles with each such answer. */
  note(offset: number, lengthBytes: number, maxWindowBytes: number): AheadRange | undefined {
    const end = offset + lengthBytes;
    const stream = this.#take(offset, end);
    if (end > stream.nextOffset) stream.hits += 1;
    stream.nextOffset = Math.max(stream.nextOffset, end);
    if (stream.hits < HITS_BEFORE_AHEAD) return undefined;
    const start = Math.max(stream.aheadOffset, end);
    if (start - end > stream.windowBytes / 2) return undefined;
    stream.windowBytes = Math.min(Math.max(FIRST_WINDOW_BYTES, stream.windowBytes * 2), maxWindowBytes);
    const target = Math.ceil((end + stream.windowBytes) / BLOCK_BYTES) * BLOCK_BYTES;
    if (target <= start) return undefined;
    stream.aheadOffset = target;
    return { start, end: target };
  }

  /** The range could only be fetched up to `reached`: ask again with the next read. */
  retreat(range: AheadRange, reached: number): void {
    for (const stream of this.#streams) if (stream.aheadOffset === range.end) stream.aheadOffset = reached;
  }

  #take(offset: number, end: number): Stream {
    const slackBytes = Math.max(BLOCK_BYTES, SLACK_READS * (end - offset));
    const index = this.#streams.findIndex(
      ({ nextOffset }) => offset <= nextOffset + slackBytes && end >= nextOffset - slackBytes,
    );
    const [found] = index < 0 ? [] : this.#streams.splice(index, 1);
    const stream = found ?? { nextOffset: end, hits: 0, windowBytes: 0, aheadOffset: 0 };
    this.#streams.push(stream);
    if (this.#streams.length > STREAMS_MAX) this.#streams.shift();
    return stream;
  }
}
