/** Files that are wanted in a bucket, on the local disk, or both: put there when first asked for. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Files, fillBucket } from '../scripts/lib/fill.ts';
import { createBucket, openBucket, type Server } from '../test/support/buckets.ts';

export class DataSet {
  /** Of the bucket; unlike any other. */
  readonly name: string;
  readonly files: Files;
  readonly #server: Server;
  readonly #directory: string;
  #bucket: Promise<void> | undefined;
  #local: Promise<void> | undefined;

  /** `directory`: where the local copy goes. */
  constructor(name: string, files: Files, server: Server, directory: string) {
    this.name = name;
    this.files = files;
    this.#server = server;
    this.#directory = directory;
  }

  /** Name of a bucket that holds the files. */
  async bucket(): Promise<string> {
    this.#bucket ??= this.#fillBucket();
    await this.#bucket;
    return this.name;
  }

  /** Path of a directory that holds the files. */
  async directory(): Promise<string> {
    this.#local ??= writeFiles(this.#directory, this.files);
    await this.#local;
    return this.#directory;
  }

  async #fillBucket(): Promise<void> {
    await createBucket(this.#server, this.name);
    const store = openBucket(this.#server, this.name);
    try {
      await fillBucket(store, this.files);
    } finally {
      store.close();
    }
  }
}

export async function writeFiles(directory: string, files: Files): Promise<void> {
  await mkdir(directory, { recursive: true });
  const made = new Set<string>();
  for (const [path, content] of files) {
    const parent = dirname(join(directory, path));
    if (!made.has(parent)) await mkdir(parent, { recursive: true });
    made.add(parent);
    await writeFile(join(directory, path), content);
  }
}
