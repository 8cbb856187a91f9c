/** What the check of one row of the README's table of semantics works with. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import type { PutOptions, TestBucket } from '../bucket.ts';
import type { TestServer } from '../harness.ts';
import { syscalls } from '../syscalls.ts';

export type Check = (scene: Scene) => Promise<void>;

/** How long the servers of the checks believe what they know of files. */
export const EXPIRE_SECONDS = 1;

/** After this time a missing name is asked for again (the default of `negative_timeout`). */
export const MISSING_MS = 1000;

export class Scene {
  /** Name of the directory in the bucket that is this check's own. */
  readonly name: string;
  /** Two servers that mount the same bucket. */
  readonly here: TestServer;
  readonly there: TestServer;
  readonly #localRoot: string;

  constructor(name: string, here: TestServer, there: TestServer, localRoot: string) {
    this.name = name;
    this.here = here;
    this.there = there;
    this.#localRoot = localRoot;
  }

  get bucket(): TestBucket {
    return this.here.bucket;
  }

  /** An empty directory on the local disk, for comparison. */
  get local(): string {
    return join(this.#localRoot, this.name);
  }

  get dir(): string {
    return this.here.path(this.name);
  }

  get otherDir(): string {
    return this.there.path(this.name);
  }

  key(name: string): string {
    return `${this.name}/${name}`;
  }

  /** Another tool puts objects into this check's directory; resolves when nobody may call them missing any more. */
  async putElsewhere(objects: Readonly<Record<string, string | Uint8Array>>, options: PutOptions = {}): Promise<void> {
    for (const [name, content] of Object.entries(objects)) await this.bucket.put(this.key(name), content, options);
    await sleep(MISSING_MS + 100);
  }

  calls(script: string): Promise<string[]> {
    return syscalls(this.dir, script);
  }

  callsThere(script: string): Promise<string[]> {
    return syscalls(this.otherDir, script);
  }

  /** The script gives the same results on the mount as on the local disk. Resolves with them. */
  async same(script: string): Promise<string[]> {
    const expected = await syscalls(this.local, script);
    const results = await this.calls(script);
    expect(pair(script, results)).toEqual(pair(script, expected));
    return results;
  }
}

/** Each call beside its result: what a reader of a failure wants to see. */
function pair(script: string, results: readonly string[]): string[] {
  const calls = script.split('\n').map((line) => line.trim());
  return calls.filter((line) => line !== '').map((line, index) => `${line} → ${results[index]}`);
}
