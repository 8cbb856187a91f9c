/** Publishes nodes to the native threads. */
import type { NodeId } from '../base/ids.ts';
import type { NativeSession } from './binding.ts';
import type { HotNode, HotNodes } from './contract.ts';
import type { Opens } from './opens.ts';
import { writeAttributes } from './structs.ts';
import type { WireWriter } from './writer.ts';

const NO_FD = -1;

export class HotTable implements HotNodes {
  readonly #native: NativeSession;
  readonly #out: WireWriter;
  readonly #opens: Opens;

  constructor(native: NativeSession, out: WireWriter, opens: Opens) {
    this.#native = native;
    this.#out = out;
    this.#opens = opens;
  }

  publish(node: NodeId, { attributes, ttlMs, fd }: HotNode): boolean {
    this.#out.begin();
    writeAttributes(this.#out, attributes);
    return this.#native.publish(node, Math.floor(ttlMs), fd ?? NO_FD);
  }

  limitXattrs(prefixes: readonly string[]): void {
    this.#native.limitXattrs(prefixes);
  }

  withdraw(node: NodeId): number {
    const opens = this.#native.withdraw(node);
    this.#opens.adopt(node, opens);
    return opens;
  }
}
