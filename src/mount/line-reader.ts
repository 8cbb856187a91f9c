import { StringDecoder } from 'node:string_decoder';

/** Cuts a byte stream into lines of bounded length. */
export class LineReader {
  readonly #maxLength: number;
  readonly #decoder = new StringDecoder('utf8');
  #rest = '';

  /** `maxLength` in characters. */
  constructor(maxLength: number) {
    this.#maxLength = maxLength;
  }

  /** The lines that this chunk completes, without their ends; undefined once a line is longer than allowed. */
  push(chunk: Buffer): string[] | undefined {
    const lines = (this.#rest + this.#decoder.write(chunk)).split('\n');
    this.#rest = lines.pop() ?? '';
    return [this.#rest, ...lines].some((line) => line.length > this.#maxLength) ? undefined : lines;
  }
}
