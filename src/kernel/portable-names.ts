/** Paths, as libfuse names files, to node ids, as operations do. */
import { LRUCache } from 'lru-cache';
import { type NodeId, ROOT_NODE_ID } from '../base/ids.ts';
import type { Caller, Entry, NegativeEntry, Notifier, Operations } from './contract.ts';
import { systemError } from './errors.ts';
import { ERRNO, MAX_NAME_BYTES } from './protocol.ts';

/** Names whose nodes are remembered. */
const MAX_NAMES = 10_000;

/** What the binding makes of bytes that are not UTF-8: two such names must not become one. */
const REPLACEMENT_CHARACTER = '\ufffd';

/** libfuse renames an open file to such a name instead of unlinking it, and unlinks that after the last release. */
const HIDDEN_NAME = /^\.fuse_hidden[0-9a-f]{16}$/;

/** A name as operations take it. */
export interface Place {
  readonly parent: NodeId;
  readonly name: string;
}

/**
 * A file that is open. The kernel has one inode, with one page cache, for each path of libfuse: while a file is open its name leads to the
 * version that was opened first, whatever others put there, or reads would mix two versions.
 */
export interface Holding {
  readonly node: NodeId;
  place: Place;
  opens: number;
}

export function isHiddenName(name: string): boolean {
  return HIDDEN_NAME.test(name);
}

export class PathNames implements Notifier {
  readonly #operations: Pick<Operations, 'lookup'>;
  readonly #caller: Caller;
  readonly #known = new LRUCache<string, NodeId>({ max: MAX_NAMES });
  /** By place. At most as many as files are open. */
  readonly #held = new Map<string, Holding>();

  constructor(operations: Pick<Operations, 'lookup'>, caller: Caller) {
    this.#operations = operations;
    this.#caller = caller;
  }

  /** @throws what `lookup` throws; ENOENT; ENAMETOOLONG; EILSEQ for a name that is not UTF-8. */
  async resolve(path: string): Promise<NodeId> {
    let node = ROOT_NODE_ID;
    for (const name of namesIn(path)) node = await this.#child({ parent: node, name });
    return node;
  }

  /** Where the last name of a path is, or is to be. */
  async place(path: string): Promise<Place> {
    const cut = path.lastIndexOf('/');
    const [name = ''] = namesIn(path.slice(cut));
    return { parent: await this.resolve(path.slice(0, cut)), name };
  }

  learn(place: Place, entry: Entry | NegativeEntry): void {
    if (entry.node !== undefined && entry.entryTtlMs > 0) {
      this.#known.set(keyOf(place), entry.node, { ttl: entry.entryTtlMs });
    }
  }

  forget(place: Place): void {
    this.#known.delete(keyOf(place));
  }

  forgetAll(): void {
    this.#known.clear();
  }

  /** The node has one more open description. Its place leads to it until `letGo` was called as often. */
  hold(place: Place, node: NodeId): Holding {
    const key = keyOf(place);
    const present = this.#held.get(key);
    if (present?.node === node) {
      present.opens += 1;
      return present;
    }
    const holding = { node, place, opens: 1 };
    this.#held.set(key, holding);
    return holding;
  }

  letGo(holding: Holding): void {
    holding.opens -= 1;
    if (holding.opens === 0) this.#remove(holding);
  }

  /** What is open at this place. */
  heldAt(place: Place): Holding | undefined {
    return this.#held.get(keyOf(place));
  }

  /** To be called when a name has moved. */
  moved(from: Place, to: Place): void {
    this.forget(from);
    this.forget(to);
    const holding = this.heldAt(from);
    if (holding === undefined) return;
    this.#remove(holding);
    holding.place = to;
    this.#held.set(keyOf(to), holding);
  }

  // Notifier: libfuse 2 cannot pass on to the kernel what changed, so only what is remembered here is dropped.

  invalidateEntry(parent: NodeId, name: string): void {
    this.forget({ parent, name });
  }

  invalidateNode(): void {
    // Nothing of a node is kept here but its name.
  }

  async #child(place: Place): Promise<NodeId> {
    const key = keyOf(place);
    const known = this.#held.get(key)?.node ?? this.#known.get(key);
    if (known !== undefined) return known;
    const entry = await this.#operations.lookup(this.#caller, place.parent, place.name);
    if (entry.node === undefined) throw systemError(ERRNO.ENOENT, 'lookup');
    this.learn(place, entry);
    return entry.node;
  }

  #remove(holding: Holding): void {
    const key = keyOf(holding.place);
    if (this.#held.get(key) === holding) this.#held.delete(key);
  }
}

function keyOf({ parent, name }: Place): string {
  return `${parent}/${name}`;
}

function namesIn(path: string): string[] {
  if (path.includes(REPLACEMENT_CHARACTER)) throw systemError(ERRNO.EILSEQ, 'not UTF-8');
  const names = path.split('/').filter((name) => name !== '');
  if (names.some((name) => Buffer.byteLength(name) > MAX_NAME_BYTES)) throw systemError(ERRNO.ENAMETOOLONG, 'lookup');
  return names;
}
