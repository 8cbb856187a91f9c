/**
 * FUSE passthrough: the kernel reads and writes a node's backing file by itself. Its rules (`fs/fuse/iomode.c`):
 * while a node is open in passthrough, every further open of it must be passthrough with the same backing id; while it is
 * open otherwise, it cannot be opened in passthrough. FOPEN_DIRECT_IO beside FOPEN_PASSTHROUGH satisfies both, and has reads and writes sent
 * all the same.
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
  inodeOf(fd: number): number;
}

/** 0 and 0: not in passthrough. */
export interface Backing {
  readonly backingId: number;
  readonly backingInode: number;
}

interface OpenCounts {
  plain: number;
  passthrough: number;
  /** Above 0 exactly while `passthrough` is. */
  backingId: number;
  backingInode: number;
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
   * opened and earlier when it is closed, so what we believe to be free is free.
   */
  open(node: NodeId, backingFd: number | undefined): Backing {
    const counts = this.#countsOf(node);
    if (counts.passthrough === 0 && counts.plain === 0 && backingFd !== undefined) {
      counts.backingId = this.#register(backingFd);
      counts.backingInode = counts.backingId > 0 ? this.#backing.inodeOf(backingFd) : 0;
    }
    if (counts.backingId > 0) counts.passthrough += 1;
    else counts.plain += 1;
    const { backingId, backingInode } = counts;
    return { backingId, backingInode };
  }

  /** Counts an open that an earlier process answered. */
  restore(node: NodeId, { backingId, backingInode }: Backing): void {
    const counts = this.#countsOf(node);
    if (backingId > 0) {
      counts.passthrough += 1;
      counts.backingId = backingId;
      counts.backingInode = backingInode;
    } else {
      counts.plain += 1;
    }
  }

  /** Counts opens that were answered without passthrough, elsewhere. */
  adopt(node: NodeId, plainOpens: number): void {
    this.#countsOf(node).plain += plainOpens;
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

  #countsOf(node: NodeId): OpenCounts {
    const counts = this.#nodes.get(node) ?? { plain: 0, passthrough: 0, backingId: 0, backingInode: 0 };
    this.#nodes.set(node, counts);
    return counts;
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
    counts.backingInode = 0;
  }
}
