import { readdir } from 'node:fs/promises';
import { assert } from '../base/assert.ts';
import { faultPoint } from '../base/fault-points.ts';
import type { Logger } from '../base/log.ts';
import { Semaphore } from '../base/semaphore.ts';
import {
  isStoreError,
  type ListedObject,
  type ObjectAttributes,
  type ObjectHead,
  type ObjectStore,
} from '../store/contract.ts';
import type { Mover, TreeMove, UploadResult } from './contract.ts';
import { BATCH_KEYS, DeleteBatcher } from './delete-batch.ts';
import { isCopyOf } from './etag.ts';
import { type MoveEntry, MoveList } from './move-list.ts';
import { runMultipart } from './multipart.ts';
import { COPY_MAX_BYTES, planCopy } from './parts.ts';

const COPIES_PARALLEL = 16;
const PARTS_PARALLEL = 8;

export interface MoverOptions {
  readonly store: ObjectStore;
  readonly log: Logger;
  /** An existing directory for the lists of what is moved; on a disk that keeps its files over a restart. */
  readonly listDirectory: string;
}

export function createMover(options: MoverOptions): Mover {
  return new ServerSideMover(options);
}

type Version = Pick<ListedObject, 'etag' | 'sizeBytes'>;

class ServerSideMover implements Mover {
  readonly #store: ObjectStore;
  readonly #log: Logger;
  readonly #listDirectory: string;
  readonly #deletes: DeleteBatcher;
  readonly #copies = new Semaphore(COPIES_PARALLEL);
  readonly #parts = new Semaphore(PARTS_PARALLEL);

  constructor(options: MoverOptions) {
    this.#store = options.store;
    this.#log = options.log;
    this.#listDirectory = options.listDirectory;
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

  delete(key: string, isPatient = false): Promise<void> {
    return this.#deletes.delete(key, isPatient);
  }

  hurryDeletes(): void {
    this.#deletes.hurry();
  }

  deleteVersion(key: string, etag: string | undefined): Promise<void> {
    return this.#remove(key, etag);
  }

  async copyTree(move: TreeMove): Promise<number> {
    const { fromPrefix, toPrefix, markerKey } = move;
    assert(!toPrefix.startsWith(fromPrefix), 'a tree is not moved into itself');
    return this.#withList(move, async (list) => {
      let count = 0;
      for await (const { objects } of this.#store.list({ prefix: fromPrefix })) {
        const page = objects.filter(({ key }) => key !== markerKey);
        count += await this.#copyPage(
          list,
          page.map((object) => entry(object, object.key, toPrefix + object.key.slice(fromPrefix.length))),
        );
      }
      const marker = await this.#find(markerKey);
      if (marker === undefined) return count;
      if (!move.keepsMarker) await this.#copyPage(list, [entry(marker, markerKey, toPrefix)]);
      return count + 1;
    });
  }

  undoTree(move: TreeMove): Promise<void> {
    return this.#withList(move, async (list) => {
      for await (const entries of list.batches(BATCH_KEYS)) {
        await allOrFirstError(entries.map((copied) => this.#copies.run(() => this.#takeBack(copied))));
      }
    });
  }

  removeTree(move: TreeMove, how: { readonly checked: boolean }): Promise<void> {
    return this.#withList(move, async (list) => {
      if (move.keepsMarker) await this.#replaceMarker(move);
      faultPoint('tree.marked');
      // A second listing would name objects that came into the source meanwhile as well, and deleting those would lose them.
      for await (const entries of list.batches(BATCH_KEYS)) {
        const copied = entries.filter(({ copyEtag }) => copyEtag !== undefined);
        await allOrFirstError(copied.map(({ from, etag }) => this.#remove(from, how.checked ? etag : undefined)));
        faultPoint('tree.deleted');
      }
      if (move.keepsMarker) await this.#deletes.delete(move.markerKey);
    });
  }

  forgetTree({ list }: TreeMove): Promise<void> {
    return MoveList.remove(this.#listDirectory, list);
  }

  async forgetOthers(lists: ReadonlySet<string>): Promise<void> {
    for (const name of await readdir(this.#listDirectory)) {
      if (name.startsWith('move-') && !lists.has(name)) await MoveList.remove(this.#listDirectory, name);
    }
  }

  async #withList<T>({ list: name }: TreeMove, task: (list: MoveList) => Promise<T>): Promise<T> {
    const list = await MoveList.open(this.#listDirectory, name);
    try {
      return await task(list);
    } finally {
      await list.close();
    }
  }

  /** The number of copies; what vanished since it was listed is left out. */
  async #copyPage(list: MoveList, entries: readonly MoveEntry[]): Promise<number> {
    await list.append(entries);
    await list.sync();
    faultPoint('tree.planned');
    const copies = await allOrFirstError(entries.map((planned) => this.#copies.run(() => this.#copyLatest(planned))));
    const copied = copies.filter((copy) => copy !== undefined);
    await list.append(copied);
    await list.sync();
    faultPoint('tree.page');
    return copied.length;
  }

  /** A tree is moved as it is: an object that was replaced since it was listed goes along in its new version. */
  async #copyLatest(planned: MoveEntry): Promise<MoveEntry | undefined> {
    let version: Version = planned;
    for (let attempts = 0; ; attempts += 1) {
      try {
        const { etag } = await this.copy(planned.from, planned.to, version, undefined);
        return { ...planned, etag: version.etag, sizeBytes: version.sizeBytes, copyEtag: etag };
      } catch (error) {
        if (isStoreError(error, 'NotFound')) return undefined;
        if (!isStoreError(error, 'PreconditionFailed') || attempts > 2) throw error;
      }
      const head = await this.#find(planned.from);
      if (head === undefined) return undefined;
      version = head;
    }
  }

  /**
   * Deletes a copy while its original is there, and only if it is that: what was under the key before, or was put there since, is somebody
   * else's. Between the look and the DELETE another server could still put one there: no condition of DELETE is honoured everywhere (Ceph
   * RGW ignores If-Match).
   */
  async #takeBack({ from, to, copyEtag }: MoveEntry): Promise<void> {
    const [original, copy] = await Promise.all([this.#find(from), this.#find(to)]);
    if (copy === undefined) return;
    if (original !== undefined && (copy.etag === copyEtag || isCopyOf(original, copy))) {
      return this.#deletes.delete(to);
    }
    this.#log.warn({ key: to }, 'left by a rename that failed, and not known to be its copy: it stays');
  }

  /** `etag`: only this version. */
  async #remove(key: string, etag: string | undefined): Promise<void> {
    if (etag !== undefined) {
      const head = await this.#copies.run(() => this.#find(key));
      if (head === undefined) return;
      if (head.etag !== etag) {
        this.#log.warn({ key }, 'written again since it was renamed: it stays');
        return;
      }
    }
    await this.#deletes.delete(key);
  }

  async #replaceMarker({ markerKey, toPrefix }: TreeMove): Promise<void> {
    const marker = await this.#find(markerKey);
    if (marker !== undefined) await this.copy(markerKey, toPrefix, marker, undefined);
  }

  async #find(key: string): Promise<ObjectHead | undefined> {
    try {
      return await this.#store.head(key);
    } catch (error) {
      if (isStoreError(error, 'NotFound')) return undefined;
      throw error;
    }
  }

  async #copyInParts(
    fromKey: string,
    toKey: string,
    { etag, sizeBytes }: Version,
    attributes: ObjectAttributes | undefined,
  ): Promise<UploadResult> {
    const result = await runMultipart(this.#store, this.#log, {
      key: toKey,
      request: { attributes: attributes ?? (await this.#store.head(fromKey)) },
      parts: planCopy(sizeBytes),
      parallel: PARTS_PARALLEL,
      send: (upload, { partNumber, offset, lengthBytes }, signal) => {
        const range = { offset, length: lengthBytes };
        const copy = () => this.#store.copyPart(upload, partNumber, fromKey, range, { ifMatch: etag, signal });
        return this.#parts.run(copy, 1, signal);
      },
      beforeComplete: async () => {},
    });
    return { etag: result.etag, lastModifiedMs: result.lastModifiedMs, multipart: true };
  }
}

function entry({ etag, sizeBytes }: Version, from: string, to: string): MoveEntry {
  return { from, to, etag, sizeBytes };
}

/** Lets all finish, so that nothing runs on behind the caller's back, then rejects with the first error. */
async function allOrFirstError<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  const results = await Promise.allSettled(promises);
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}
