import type { NodeId } from '../base/ids.ts';
import type { Caller } from './contract.ts';
import type { RequestReader } from './reader.ts';

/** FUSE_UNIQUE_RESEND, in the upper half of `unique`: sent again after the worker that had it died. Echoed in replies. */
const RESENT = 0x8000_0000;

/** One id for a request and its resent self. Exact: the kernel counts up from 1 in steps of 2. */
export function requestKey(uniqueLow: number, uniqueHigh: number): number {
  return (uniqueHigh & ~RESENT) * 0x1_0000_0000 + uniqueLow;
}

/** The header of a request, and what has become of it. */
export class Request implements Caller {
  readonly opcode: number;
  readonly uniqueLow: number;
  readonly uniqueHigh: number;
  readonly node: NodeId;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** Where a WRITE's payload is held; 0 for none. */
  readonly slot: number;
  /** Of the whole request, payload included. */
  readonly sizeBytes: number;
  answered = false;
  /** A native thread is about to answer. */
  handedOver = false;
  /** An earlier worker may have executed it, all but for the reply. */
  readonly isResent: boolean;
  #controller: AbortController | undefined;
  #interrupted = false;

  /** Reads struct fuse_in_header. `isKept`: an earlier worker had taken it, and left it to this one. @throws WireError */
  constructor(reader: RequestReader, slot: number, isKept = false) {
    this.sizeBytes = reader.u32();
    this.opcode = reader.u32();
    this.uniqueLow = reader.u32();
    this.uniqueHigh = reader.u32();
    const nodeLow = reader.u32();
    this.node = (reader.u32() * 0x1_0000_0000 + nodeLow) as NodeId;
    this.uid = reader.u32();
    this.gid = reader.u32();
    this.pid = reader.u32();
    reader.skip(4);
    this.slot = slot;
    this.isResent = isKept || (this.uniqueHigh & RESENT) !== 0;
  }

  get key(): number {
    return requestKey(this.uniqueLow, this.uniqueHigh);
  }

  /** Made on first use: hardly any operation is interrupted, and most never look. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#interrupted) this.#controller.abort();
    }
    return this.#controller.signal;
  }

  interrupt(): void {
    this.#interrupted = true;
    this.#controller?.abort();
  }
}
