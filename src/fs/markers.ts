/** Directories as the bucket has them: a marker object, or what is below. */
import { ROOT_NODE_ID } from '../base/ids.ts';
import { INDEX_BATCH, type NodeRow } from '../index/contract.ts';
import type { BodySource } from '../store/contract.ts';
import type { Backlog } from './backlog.ts';
import type { FsContext } from './context.ts';
import { FsError } from './errors.ts';
import type { HiddenKeys } from './hidden-keys.ts';
import type { Tree } from './tree.ts';

export const EMPTY_BODY: BodySource = { sizeBytes: 0, open: () => new Uint8Array(0) };

export class Markers {
  readonly #context: FsContext;
  readonly #tree: Tree;
  readonly #backlog: Backlog;
  readonly #hidden: HiddenKeys;

  constructor(context: FsContext, tree: Tree, backlog: Backlog, hidden: HiddenKeys) {
    this.#hidden = hidden;
    this.#context = context;
    this.#tree = tree;
    this.#backlog = backlog;
  }

  /**
   * POSIX keeps a directory whose last entry goes; an implied one would vanish from the bucket, so it gets a marker. Before the entry goes: a
   * crash in between leaves a directory with a marker and an entry, and not none.
   */
  async keepParentOf(leaving: NodeRow): Promise<void> {
    const { index } = this.#context;
    const parent = leaving.parent === undefined ? undefined : index.nodes.get(leaving.parent);
    if (parent === undefined || parent.id === ROOT_NODE_ID || parent.marker !== undefined) return;
    if (index.nodes.children(parent.id, 0, 2).some(({ id }) => id !== leaving.id)) return;
    await this.put(parent);
  }

  async put(row: NodeRow): Promise<void> {
    const { store, index, clock } = this.#context;
    const key = this.#tree.prefixOf(row.id);
    const result = await store.put(key, EMPTY_BODY, { attributes: this.#tree.objectAttributes(row, key) });
    index.nodes.update(row.id, { marker: '', etag: result.etag, validatedAtMs: clock.stampMs() });
  }

  /** ENOTEMPTY when the bucket, or this mount, has something in the directory, be it a key that is no file name and is not shown. */
  async checkEmpty(directory: NodeRow): Promise<void> {
    const { beliefs, index, store } = this.#context;
    const isKnown = beliefs.isWhollyKnown(directory) && !this.#hidden.isHidingBelow(directory.id);
    if (isKnown && !index.nodes.hasChildren(directory.id)) return;
    // Where there are more, the bucket has some of them.
    const children = index.nodes.children(directory.id, 0, INDEX_BATCH);
    if (children.some(({ dirty }) => dirty)) throw new FsError('ENOTEMPTY');
    const prefix = this.#tree.prefixOf(directory.id);
    await this.#backlog.settledBelow(prefix);
    for await (const page of store.list({ prefix, limit: 2 })) {
      if (page.objects.some((object) => object.key !== prefix)) throw new FsError('ENOTEMPTY');
    }
  }
}
