/**
 * Open descriptions of the kernel, by the handle that comes back with RELEASE. Those that may write, and those in passthrough, are
 * kept for a successor: it must count them as this process does.
 */
import { randomInt } from 'node:crypto';
import { constants } from 'node:fs';
import type { NodeId } from '../base/ids.ts';
import type { OpenRecord, OpenRecords } from './contract.ts';
import type { Passthrough } from './passthrough.ts';
import type { Request } from './request.ts';

/** Missing in `node:fs`. */
const O_ACCMODE = 3;

export interface OpenSource {
  readonly passthrough: Passthrough;
  /** undefined: nobody is to succeed this process. */
  readonly records: OpenRecords | undefined;
  /** What an earlier process left. */
  readonly inherited: readonly OpenRecord[];
}

export class Opens {
  readonly #passthrough: Passthrough;
  readonly #records: OpenRecords | undefined;
  readonly #kept = new Map<number, OpenRecord>();
  /** The handle of all opens that are not kept. Odd, and another one in each process; keys of requests are even. */
  readonly plainHandle = randomInt(2 ** 31) * 2 + 1;

  constructor(source: OpenSource) {
    this.#passthrough = source.passthrough;
    this.#records = source.records;
    for (const record of source.inherited) {
      this.#kept.set(record.handle, record);
      this.#passthrough.restore(record.node, record);
    }
  }

  /** At the time of the reply, see `Passthrough.open`. */
  add(request: Request, node: NodeId, flags: number, backingFd: number | undefined): OpenRecord {
    const backing = this.#passthrough.open(node, backingFd);
    if ((flags & O_ACCMODE) === constants.O_RDONLY && backing.backingId === 0) {
      return { handle: this.plainHandle, node, flags, ...backing };
    }
    // A request that is sent again has the same key, and so the same handle.
    const record = { handle: request.key, node, flags, ...backing };
    this.#kept.set(record.handle, record);
    this.#records?.put(record);
    return record;
  }

  /** Takes over opens that native threads have answered, for reading and without passthrough. */
  adopt(node: NodeId, count: number): void {
    if (count > 0) this.#passthrough.adopt(node, count);
  }

  /** The open that an earlier process made for this request, which is all done but for the reply. */
  find(request: Request): OpenRecord | undefined {
    return request.isResent ? this.#kept.get(request.key) : undefined;
  }

  /** Returns false for an open that is not counted here: an earlier process answered it, or its release came before. */
  remove(node: NodeId, handle: number): boolean {
    const record = this.#kept.get(handle);
    if (record === undefined && handle !== this.plainHandle) return false;
    this.#passthrough.close(node, record?.backingId ?? 0);
    if (record === undefined) return true;
    this.#kept.delete(handle);
    this.#records?.delete(handle);
    return true;
  }
}
