/**
 * FUSE passthrough: the kernel reads and writes a node's backing file by itself. Its rules (`fs/fuse/iomode.c`):
 * while a node is open in passthrough, every further open of it must be passthrough with the same backing id; while it is
 * open otherwise, it cannot be opened in passthrough.
 */

import type { NodeId } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';
import { errnoName } from './errors.ts';

export type PassthroughState = 'on' | 'not offered by the kernel' | 'switched off' | `failed: ${string}`;

export interface PassthroughStatus {
  readonly state: PassthroughState;
  /** Nodes that are open in passthrough. */
  readonly nodes: number;
}

/** The kernel's side. `open` returns a backing id or a negative errno, `close` 0 or an errno. */
export interface BackingFiles {
  open(fd: number): number;
  close(backingId: number): number;
}

interface OpenCounts {
  plain: number;
  passthrough: number;
  /** Above 0 exactly while `passthrough` is. */
  backingId: number;
}

export class Passthrough {
  readonly #backing: BackingFiles;
  readonly #log: Logger;
  readonly #nodes = new Map<NodeId, OpenCounts>();
  #state: PassthroughState;

  constructor(backing: BackingFiles, log: Logger, wanted: boolean) {
    this.#backing = backing;
    this.#log = log;
    this.#state = wanted ? 'on' : 'switched off';
  }

  get wanted(): boolean {
    return this.#state === 'on';
  }

  status(): PassthroughStatus {
    let nodes = 0;
    for (const counts of this.#nodes.values()) if (counts.passthrough > 0) nodes += 1;
    return { state: this.#state, nodes };
  }

  /** INIT's result. */
  negotiated(offered: boolean): void {
    if (this.#state === 'on' && !offered) this.#state = 'not offered by the kernel';
  }

  /**
   * Counts an open and decides its mode, at the time of the reply: the kernel counts later than we do when a file is
   * opened and earlier when it is closed, so what we believe to be free is free. Returns a backing id, or 0 for plain.
   */
  open(node: NodeId, backingFd: number | undefined): number {
    const counts = this.#nodes.get(node) ?? { plain: 0, passthrough: 0, backingId: 0 };
    if (counts.passthrough === 0 && counts.plain === 0 && backingFd !== undefined) {
      counts.backingId = this.#register(backingFd);
    }
    if (counts.backingId > 0) counts.passthrough += 1;
    else counts.plain += 1;
    this.#nodes.set(node, counts);
    return counts.backingId;
  }

  /** Counts an open that an earlier process answered. */
  restore(node: NodeId, backingId: number): void {
    const counts = this.#nodes.get(node) ?? { plain: 0, passthrough: 0, backingId: 0 };
    if (backingId > 0) {
      counts.passthrough += 1;
      counts.backingId = backingId;
    } else {
      counts.plain += 1;
    }
    this.#nodes.set(node, counts);
  }

  /** Counts opens that were answered without passthrough, elsewhere. */
  adopt(node: NodeId, plainOpens: number): void {
    const counts = this.#nodes.get(node) ?? { plain: 0, passthrough: 0, backingId: 0 };
    counts.plain += plainOpens;
    this.#nodes.set(node, counts);
  }

  /** `backingId` is what `open` returned. Opens that an earlier process answered are not known here, and are ignored. */
  close(node: NodeId, backingId: number): void {
    const counts = this.#nodes.get(node);
    if (counts === undefined) return;
    if (backingId > 0) {
      if (counts.backingId !== backingId) return;
      counts.passthrough -= 1;
    } else if (counts.plain > 0) {
      counts.plain -= 1;
    }
    if (counts.passthrough === 0 && counts.backingId > 0) this.#unregister(counts);
    if (counts.passthrough === 0 && counts.plain === 0) this.#nodes.delete(node);
  }

  /** One refusal (no CAP_SYS_ADMIN, a stacked file system) is final: the next file would be refused too. */
  #register(fd: number): number {
    if (this.#state !== 'on') return 0;
    const result = this.#backing.open(fd);
    if (result > 0) return result;
    this.#state = `failed: ${errnoName(-result)}`;
    this.#log.warn({ reason: errnoName(-result) }, 'passthrough is refused; reads and writes go through the daemon');
    return 0;
  }

  #unregister(counts: OpenCounts): void {
    const errno = this.#backing.close(counts.backingId);
    if (errno !== 0) this.#log.warn({ reason: errnoName(errno) }, 'a backing file could not be given back');
    counts.backingId = 0;
  }
}
