/** What the index believes of the bucket against a listing of it. Names that only the bucket has are no findings: nobody has asked for them yet. */
import { LRUCache } from 'lru-cache';
import { type NodeId, ROOT_NODE_ID } from '../base/ids.ts';
import type { IntentRow, NodeRow } from '../index/contract.ts';
import { IdSet } from '../index/id-set.ts';
import { allRows } from '../index/pages.ts';
import { pathOf } from '../index/path.ts';
import type { IndexReader } from '../index/reader.ts';
import { isStoreError, type ListedObject, type ObjectStore } from '../store/contract.ts';
import type { FsckScene } from './fsck-scene.ts';

const REPAIR = 'forgets it; the bucket is asked again';
const DIRECTORIES_MAX = 10_000;
const PROGRESS_EVERY = 1000;
/** Clocks of this host and of the store may differ by so much without anybody noticing. */
const CLOCKS_MS = 5_000;

export async function checkBucket(scene: FsckScene, reader: IndexReader, store: ObjectStore): Promise<void> {
  const comparison = new Comparison(scene, reader, store);
  try {
    await comparison.compare();
  } finally {
    comparison.close();
  }
}

class Comparison {
  readonly #scene: FsckScene;
  readonly #reader: IndexReader;
  readonly #store: ObjectStore;
  readonly #seen = new IdSet();
  /** Keys, and prefixes with a slash, that something pending is about. */
  readonly #pending: ReadonlySet<string>;
  /** Directory path → its node. */
  readonly #directories = new LRUCache<string, NodeId>({ max: DIRECTORIES_MAX });

  constructor(scene: FsckScene, reader: IndexReader, store: ObjectStore) {
    this.#scene = scene;
    this.#reader = reader;
    this.#store = store;
    const { pending } = scene.layers.index;
    this.#pending = new Set([...allRows(pending.intents.bind(pending), ({ id }) => id)].flatMap(keysOf));
  }

  close(): void {
    this.#seen.close();
  }

  async compare(): Promise<void> {
    const { config, onProgress } = this.#scene;
    let count = 0;
    for await (const { objects } of this.#store.list({ prefix: config.prefix })) {
      for (const object of objects) {
        count += 1;
        this.#compareOne(object);
        if (count % PROGRESS_EVERY === 0) onProgress(`comparing with the bucket: ${count} objects`);
      }
    }
    for (const row of allRows(this.#reader.files, ({ id }) => id)) {
      if (!row.dirty && !this.#seen.has(row.id)) await this.#checkMissing(row);
    }
  }

  #compareOne(object: ListedObject): void {
    const path = object.key.slice(this.#scene.config.prefix.length);
    const row = this.#find(path);
    if (row === undefined || row.kind === 'directory') return;
    this.#seen.add(row.id);
    if (row.dirty || row.etag === undefined) return;
    if (row.etag !== object.etag) this.#tellChanged(path, row, object);
    // A link's size is that of its target; both are the object's.
    else if (row.sizeBytes !== object.sizeBytes) {
      const text = `its size is noted as ${row.sizeBytes} bytes; the bucket has ${object.sizeBytes}, and the same ETag`;
      this.#tell(path, row, text);
    }
  }

  /** Others may have replaced it since it was looked at last: that is told, and found out by itself. */
  #tellChanged(path: string, row: NodeRow, object: ListedObject): void {
    if (object.lastModifiedMs > row.validatedAtMs - CLOCKS_MS) {
      const text = 'it was replaced in the bucket since it was looked at last';
      this.#scene.onFinding({ area: 'bucket', path, text, repair: undefined });
    } else this.#tell(path, row, `its version is noted as ${row.etag}; the bucket has ${object.etag}`);
  }

  /** The listing is some minutes old by now, and a name can be hidden in it. */
  async #checkMissing(row: NodeRow): Promise<void> {
    const path = pathOf(this.#reader.nodes, row.id);
    if (path === undefined || this.#isUnderWay(path)) return;
    try {
      await this.#store.head(this.#scene.config.prefix + path);
    } catch (error) {
      if (!isStoreError(error, 'NotFound')) throw error;
      this.#tell(path, row, 'the bucket does not have it, and nothing of it is pending');
    }
  }

  #tell(path: string, row: NodeRow, text: string): void {
    this.#scene.onFinding({ area: 'bucket', path, text, repair: REPAIR });
    if (!this.#scene.isRepairing) return;
    const { nodes } = this.#scene.layers.index;
    nodes.remove(row.id);
    // What a listing does not name is believed to be missing.
    if (row.parent !== undefined) nodes.update(row.parent, { listedAtMs: 0 });
  }

  #isUnderWay(path: string): boolean {
    const key = this.#scene.config.prefix + path;
    if (this.#pending.has(key)) return true;
    for (let end = key.indexOf('/'); end >= 0; end = key.indexOf('/', end + 1)) {
      if (this.#pending.has(key.slice(0, end + 1))) return true;
    }
    return false;
  }

  #find(path: string): NodeRow | undefined {
    const cut = path.lastIndexOf('/');
    const parent = this.#directory(path.slice(0, Math.max(0, cut)));
    return parent === undefined ? undefined : this.#reader.nodes.child(parent, path.slice(cut + 1));
  }

  #directory(path: string): NodeId | undefined {
    if (path === '') return ROOT_NODE_ID;
    const known = this.#directories.get(path);
    if (known !== undefined) return known;
    const row = this.#find(path);
    if (row?.kind === 'directory') this.#directories.set(path, row.id);
    return row?.kind === 'directory' ? row.id : undefined;
  }
}

function keysOf({ action }: IntentRow): string[] {
  if (action.kind === 'delete') return [action.key];
  if (action.kind === 'rename') return [action.fromKey, action.toKey];
  return [action.fromPrefix, action.toPrefix, action.markerKey];
}
