/** What becomes of nodes that lost their name: kept while somebody has them open, then buried. */
import { type NodeId, ROOT_NODE_ID } from '../base/ids.ts';
import type { NodeRow } from '../index/contract.ts';
import type { FsContext } from './context.ts';
import { KernelMemory } from './kernel-memory.ts';
import type { OpenFiles } from './open-files.ts';

export class Retirement {
  readonly #context: FsContext;
  readonly #openFiles: () => OpenFiles;
  /** Kernels that do not say, or did not say to this process, which of the nodes they know are open. */
  readonly #holders = new Set<KernelMemory>();
  #inherited: KernelMemory | undefined;

  constructor(context: FsContext, openFiles: () => OpenFiles) {
    this.#context = context;
    this.#openFiles = openFiles;
  }

  /** Takes over from an earlier process, which the kernel knows all these nodes from. */
  inherit(lastId: NodeId): void {
    this.#inherited = new KernelMemory(lastId);
    this.#holders.add(this.#inherited);
  }

  /** The node may be open since before this process: who reads it is not known. */
  isInherited(id: NodeId): boolean {
    return this.#inherited?.knows(id) ?? false;
  }

  addHolder(kernel: KernelMemory): void {
    this.#holders.add(kernel);
  }

  /** It is unmounted, and has nothing open any more. What was kept for it alone goes with the next start. */
  removeHolder(kernel: KernelMemory): void {
    this.#holders.delete(kernel);
  }

  /** The kernel of the main mount does not know the node any more. */
  forgottenByHeir(id: NodeId): void {
    if (this.#inherited === undefined) return;
    this.#inherited.forget(id);
    this.forgotten(id);
  }

  /** One of the holders does not know the node any more. */
  forgotten(id: NodeId): void {
    if (this.#isHeld(id)) return;
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
    if (row.kind !== 'directory' && this.#isHeld(row.id)) {
      this.#context.index.nodes.detach(row.id);
      this.#context.journal.noteMoved(row.id);
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
    if (!this.#isHeld(id)) this.#bury(row);
    return true;
  }

  #isHeld(id: NodeId): boolean {
    if (this.#openFiles().find(id) !== undefined) return true;
    for (const kernel of this.#holders) if (kernel.knows(id)) return true;
    return false;
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
