import { assert } from '../base/assert.ts';
import type { Logger } from '../base/log.ts';
import { Semaphore } from '../base/semaphore.ts';
import { isStoreError, type ListedObject, type ObjectAttributes, type ObjectStore } from '../store/contract.ts';
import type { Mover, UploadResult } from './contract.ts';
import { BATCH_KEYS, DeleteBatcher } from './delete-batch.ts';
import { runMultipart } from './multipart.ts';
import { COPY_MAX_BYTES, planCopy } from './parts.ts';
import { Spool } from './spool.ts';

const COPIES_PARALLEL = 16;
const PARTS_PARALLEL = 8;

export interface MoverOptions {
  readonly store: ObjectStore;
  readonly log: Logger;
  /** An existing directory for the lists of large trees. */
  readonly spoolDirectory: string;
}

export function createMover(options: MoverOptions): Mover {
  return new ServerSideMover(options);
}

type Version = Pick<ListedObject, 'etag' | 'sizeBytes'>;

class ServerSideMover implements Mover {
  readonly #store: ObjectStore;
  readonly #log: Logger;
  readonly #spoolDirectory: string;
  readonly #deletes: DeleteBatcher;
  readonly #copies = new Semaphore(COPIES_PARALLEL);
  readonly #parts = new Semaphore(PARTS_PARALLEL);

  constructor(options: MoverOptions) {
    this.#store = options.store;
    this.#log = options.log;
    this.#spoolDirectory = options.spoolDirectory;
    this.#deletes = new DeleteBatcher(options.store);
  }

  async copy(
    fromKey: string,
    toKey: string,
    object: Version,
    attributes: ObjectAttributes | undefined,
  ): Promise<UploadResult> {
    if (object.sizeBytes > COPY_MAX_BYTES) return this.#copyInParts(fromKey, toKey, object, attributes);
    const replaced = attributes === undefined ? {} : { attributes };
    const result = await this.#store.copy(fromKey, toKey, { ...replaced, ifMatch: object.etag });
    return { etag: result.etag, lastModifiedMs: result.lastModifiedMs, multipart: false };
  }

  delete(key: string): Promise<void> {
    return this.#deletes.delete(key);
  }

  /**
   * The keys to delete are those that were copied, kept in a file while the copies run. A second listing would name objects that came
   * into the source meanwhile as well, and deleting those would lose them; a list in memory has no bound.
   */
  async moveTree(fromPrefix: string, toPrefix: string): Promise<number> {
    assert(!toPrefix.startsWith(fromPrefix), 'a tree is not moved into itself');
    const copied = await Spool.create(this.#spoolDirectory);
    try {
      let count = 0;
      for await (const { objects } of this.#store.list({ prefix: fromPrefix })) {
        const keys = await this.#copyPage(objects, fromPrefix, toPrefix);
        await copied.append(keys);
        count += keys.length;
      }
      for await (const keys of copied.batches(BATCH_KEYS)) {
        await allOrFirstError(keys.map((key) => this.#deletes.delete(key)));
      }
      return count;
    } finally {
      await copied.close();
    }
  }

  /** The keys that were copied; those that vanished since they were listed are left out. */
  async #copyPage(objects: readonly ListedObject[], fromPrefix: string, toPrefix: string): Promise<string[]> {
    const copies = objects.map((object) =>
      this.#copies.run(async () => {
        const toKey = toPrefix + object.key.slice(fromPrefix.length);
        return (await this.#copyLatest(object, toKey)) ? [object.key] : [];
      }),
    );
    return (await allOrFirstError(copies)).flat();
  }

  /** A tree is moved as it is: an object that was replaced since it was listed goes along in its new version. */
  async #copyLatest(listed: ListedObject, toKey: string): Promise<boolean> {
    let version: Version = listed;
    for (let attempts = 0; ; attempts += 1) {
      try {
        await this.copy(listed.key, toKey, version, undefined);
        return true;
      } catch (error) {
        if (isStoreError(error, 'NotFound')) return false;
        if (!isStoreError(error, 'PreconditionFailed') || attempts > 2) throw error;
      }
      const head = await this.#store.head(listed.key).catch((error: unknown) => {
        if (isStoreError(error, 'NotFound')) return undefined;
        throw error;
      });
      if (head === undefined) return false;
      version = head;
    }
  }

  async #copyInParts(
    fromKey: string,
    toKey: string,
    { etag, sizeBytes }: Version,
    attributes: ObjectAttributes | undefined,
  ): Promise<UploadResult> {
    const result = await runMultipart(this.#store, this.#parts, this.#log, {
      key: toKey,
      request: { attributes: attributes ?? (await this.#store.head(fromKey)) },
      parts: planCopy(sizeBytes),
      send: (upload, { partNumber, offset, lengthBytes }, signal) =>
        this.#store.copyPart(upload, partNumber, fromKey, { offset, length: lengthBytes }, { ifMatch: etag, signal }),
      beforeComplete: async () => {},
    });
    return { etag: result.etag, lastModifiedMs: result.lastModifiedMs, multipart: true };
  }
}

/** Lets all finish, so that nothing runs on behind the caller's back, then rejects with the first error. */
async function allOrFirstError<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  const results = await Promise.allSettled(promises);
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}
