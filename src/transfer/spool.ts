/** A list of strings of any length, in an unnamed file: nothing to clean up after a crash. */
import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';

const READ_BYTES = 64 * 1024;

export class Spool {
  readonly #file: FileHandle;
  #sizeBytes = 0;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  static async create(directory: string): Promise<Spool> {
    const path = join(directory, `spool-${process.pid}-${crypto.randomUUID()}`);
    const file = await open(path, 'wx+', 0o600);
    await rm(path);
    return new Spool(file);
  }

  async append(items: readonly string[]): Promise<void> {
    const bytes = Buffer.from(items.map((item) => `${JSON.stringify(item)}\n`).join(''));
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, this.#sizeBytes);
      done += bytesWritten;
      this.#sizeBytes += bytesWritten;
    }
  }

  /** In order, at most `limit` at once. */
  async *batches(limit: number): AsyncGenerator<string[]> {
    let batch: string[] = [];
    const decoder = new TextDecoder();
    let rest = '';
    for (let position = 0; position < this.#sizeBytes; ) {
      const { bytesRead, buffer } = await this.#file.read(Buffer.alloc(READ_BYTES), 0, READ_BYTES, position);
      if (bytesRead === 0) throw new Error('a spool file lost its end');
      position += bytesRead;
      const lines = (rest + decoder.decode(buffer.subarray(0, bytesRead), { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        batch.push(JSON.parse(line) as string);
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
