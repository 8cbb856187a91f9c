/** What becomes of nodes that lost their name: kept while somebody has them open, then buried. */
import type { NodeId } from '../base/ids.ts';
import type { NodeRow } from '../index/contract.ts';
import type { FsContext } from './context.ts';
import type { OpenFiles } from './open-files.ts';

export class Retirement {
  readonly #context: FsContext;
  readonly #openFiles: () => OpenFiles;

  constructor(context: FsContext, openFiles: () => OpenFiles) {
    this.#context = context;
    this.#openFiles = openFiles;
  }

  /**
   * The name no longer leads to this node. While it is open its row stays, detached, so that its descriptors go on reading their
   * version; else the row goes at once: the kernel meets ESTALE on what it still remembers, and walks the path again.
   */
  retire(row: NodeRow): void {
    if (row.kind !== 'directory' && this.#openFiles().find(row.id) !== undefined) {
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
    this.#bury(row);
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
