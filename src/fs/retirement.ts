/** What becomes of nodes that lost their name: kept while somebody has them open, then buried. */
import { type NodeId, ROOT_NODE_ID } from '../base/ids.ts';
import type { NodeRow } from '../index/contract.ts';
import type { FsContext } from './context.ts';
import type { OpenFiles } from './open-files.ts';

export class Retirement {
  readonly #context: FsContext;
  readonly #openFiles: () => OpenFiles;
  /** Nodes up to this id may be open since before this process: who reads is not known of them. */
  #inheritedUpTo = 0;

  constructor(context: FsContext, openFiles: () => OpenFiles) {
    this.#context = context;
    this.#openFiles = openFiles;
  }

  /** Takes over from an earlier process, which the kernel knows all these nodes from. */
  inherit(lastId: NodeId): void {
    this.#inheritedUpTo = lastId;
  }

  isInherited(id: NodeId): boolean {
    return id <= this.#inheritedUpTo;
  }

  /**
   * The kernel does not know the node any more. Its count need not be looked at: a node without a name is found by no further lookup, and the kernel
   * forgets it with its last user.
   */
  forgotten(id: NodeId): void {
    if (!this.isInherited(id) || this.#openFiles().find(id) !== undefined) return;
    const row = this.#context.index.nodes.get(id);
    if (row === undefined || row.parent !== undefined || id === ROOT_NODE_ID) return;
    void this.#context.journal.discard(id);
    this.#bury(row);
  }

  /**
   * The name no longer leads to this node. While it is, or may be, open its row stays, detached, so that its descriptors go on reading their
   * version; else the row goes at once: the kernel meets ESTALE on what it still remembers, and walks the path again.
   */
  retire(row: NodeRow): void {
    this.#openFiles().recall(row.id);
    const isHeld = this.isInherited(row.id) || this.#openFiles().find(row.id) !== undefined;
    if (row.kind !== 'directory' && isHeld) {
      this.#context.index.nodes.detach(row.id);
      return;
    }
    this.#bury(row);
  }

  retireId(id: NodeId): void {
    const row = this.#context.index.nodes.get(id);
    if (row !== undefined) this.retire(row);
  }

  /** After the last use of a node: nothing is left to do unless it has no name. Returns whether it had none. */
  buryIfDetached(id: NodeId): boolean {
    const row = this.#context.index.nodes.get(id);
    if (row === undefined) return true;
    if (row.parent !== undefined) return false;
    // Others may have had it open before this process began: FORGET tells.
    if (!this.isInherited(id)) this.#bury(row);
    return true;
  }

  #bury(row: NodeRow): void {
    const { index, cache } = this.#context;
    if (row.content !== undefined) cache.remove(row.content);
    if (!index.nodes.remove(row.id)) void this.#buryBelow(row.id);
  }

  /** A directory that vanished takes its rows with it, in pieces. Their blocks age out of the cache. */
  async #buryBelow(id: NodeId): Promise<void> {
    do await new Promise((resolve) => setImmediate(resolve));
    while (!this.#context.index.nodes.remove(id));
  }
}
