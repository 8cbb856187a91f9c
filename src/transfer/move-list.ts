/**
 * What a move of a tree copies, of any length, in a file that survives crashes: each page before it is copied, so that copies can be
 * taken back, and once more with the versions that were copied, which are the ones to delete.
 */
import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';

export interface MoveEntry {
  readonly from: string;
  readonly to: string;
  /** Of the original. */
  readonly etag: string;
  readonly sizeBytes: number;
  /** undefined: it is going to be copied. */
  readonly copyEtag?: string | undefined;
}

const READ_BYTES = 64 * 1024;
const NEWLINE = 0x0a;

export class MoveList {
  readonly #file: FileHandle;
  readonly #directory: string;
  #sizeBytes: number;
  #isNameDurable = false;

  private constructor(file: FileHandle, directory: string, sizeBytes: number) {
    this.#file = file;
    this.#directory = directory;
    this.#sizeBytes = sizeBytes;
  }

  /** The list of that name as far as it got, or an empty one. */
  static async open(directory: string, name: string): Promise<MoveList> {
    const file = await open(join(directory, name), 'a+', 0o600);
    try {
      const { size } = await file.stat();
      const wholeBytes = await endOfLastLine(file, size);
      // A crash within a write: what is not on the list was not begun.
      if (wholeBytes < size) await file.truncate(wholeBytes);
      return new MoveList(file, directory, wholeBytes);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  static async remove(directory: string, name: string): Promise<void> {
    await rm(join(directory, name), { force: true });
  }

  async append(entries: readonly MoveEntry[]): Promise<void> {
    const bytes = Buffer.from(entries.map((entry) => `${lineOf(entry)}\n`).join(''));
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, done);
      done += bytesWritten;
      this.#sizeBytes += bytesWritten;
    }
  }

  /** What was appended survives a crash of the machine. */
  async sync(): Promise<void> {
    await this.#file.datasync();
    if (this.#isNameDurable) return;
    const directory = await open(this.#directory, 'r');
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
    this.#isNameDurable = true;
  }

  /** In order, at most `limit` at once. */
  async *batches(limit: number): AsyncGenerator<MoveEntry[]> {
    let batch: MoveEntry[] = [];
    const decoder = new TextDecoder();
    let rest = '';
    for (let position = 0; position < this.#sizeBytes; ) {
      const { bytesRead, buffer } = await this.#file.read(Buffer.alloc(READ_BYTES), 0, READ_BYTES, position);
      if (bytesRead === 0) throw new Error('a list of moved objects lost its end');
      position += bytesRead;
      const lines = (rest + decoder.decode(buffer.subarray(0, bytesRead), { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        batch.push(entryOf(line));
        if (batch.length < limit) continue;
        yield batch;
        batch = [];
      }
    }
    if (batch.length > 0) yield batch;
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

function lineOf({ from, to, etag, sizeBytes, copyEtag }: MoveEntry): string {
  return JSON.stringify([from, to, etag, sizeBytes, copyEtag]);
}

function entryOf(line: string): MoveEntry {
  const [from, to, etag, sizeBytes, copyEtag] = JSON.parse(line) as [string, string, string, number, string | null];
  return { from, to, etag, sizeBytes, copyEtag: copyEtag ?? undefined };
}

async function endOfLastLine(file: FileHandle, sizeBytes: number): Promise<number> {
  for (let end = sizeBytes; end > 0; ) {
    const start = Math.max(0, end - READ_BYTES);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(end - start), 0, end - start, start);
    const at = buffer.subarray(0, bytesRead).lastIndexOf(NEWLINE);
    if (at >= 0) return start + at + 1;
    end = start;
  }
  return 0;
}
