/** What the kernel is told of nodes: attributes, and for how long it may believe them. */
import { type NodeId, ROOT_NODE_ID } from '../base/ids.ts';
import type { NodeRow } from '../index/contract.ts';
import type { AttributesReply, Entry, NegativeEntry } from '../kernel/contract.ts';
import type { Contents } from './content.ts';
import type { FsContext } from './context.ts';
import type { OpenFiles } from './open-files.ts';
import type { Renewal } from './renewal.ts';
import type { Found, Resolver } from './resolver.ts';
import type { Tree } from './tree.ts';

/** For so long the kernel need not ask again for attributes that only a listing told: `ls -l` looks at each file just after it was listed. */
const PROVISIONAL_MS = 250;

export interface RepliesParts {
  readonly context: FsContext;
  readonly tree: Tree;
  readonly resolver: Resolver;
  readonly contents: Contents;
  readonly openFiles: OpenFiles;
  readonly renewal: Renewal;
}

export class Replies {
  readonly #parts: RepliesParts;

  constructor(parts: RepliesParts) {
    this.#parts = parts;
  }

  /** What a name was found to be; undefined: missing. */
  lookup(
    parent: NodeId,
    name: string,
    found: Found | undefined,
  ): Entry | NegativeEntry | Promise<Entry | NegativeEntry> {
    const looking = found === undefined ? undefined : this.lookAtFile(found.row.id);
    return looking === undefined
      ? this.#entryOrMissing(parent, name, found)
      : looking.then(() => this.#entryOrMissing(parent, name, found));
  }

  /** A node that was made or changed here just now. */
  fresh(row: NodeRow): Entry {
    return this.#entry({ row, remainingMs: this.#parts.context.beliefs.expireMs });
  }

  /** Beside a name of a listing. undefined: a size that nobody looked up now is not given along, see `lookAtFile`. */
  listed(row: NodeRow): Entry | undefined {
    if (this.#parts.openFiles.find(row.id)?.mayHaveUnseenWrites) return undefined;
    return this.#entry({ row, remainingMs: this.#parts.context.beliefs.remainingMs(row) });
  }

  attributes(row: NodeRow): AttributesReply {
    const { openFiles, renewal, tree } = this.#parts;
    const live = openFiles.find(row.id)?.live(row) ?? this.#stagedOf(row);
    const believedMs = renewal.believedMs(row);
    const ttlMs = this.#isProvisional(row) ? Math.min(PROVISIONAL_MS, believedMs) : believedMs;
    return { attributes: tree.attributesOf(row, live), ttlMs };
  }

  /**
   * Whatever tells the kernel the size of a file that passthrough writes to has to look at it first: an older size would cut the kernel's.
   * undefined: there is nothing to look at.
   */
  lookAtFile(id: NodeId): Promise<void> | undefined {
    const { openFiles, contents } = this.#parts;
    if (!openFiles.find(id)?.mayHaveUnseenWrites) return undefined;
    return openFiles.use(id, (file) => contents.notice(file));
  }

  #entryOrMissing(parent: NodeId, name: string, found: Found | undefined): Entry | NegativeEntry {
    const { renewal, resolver } = this.#parts;
    if (found === undefined) return { node: undefined, entryTtlMs: resolver.missingMs(parent, name) };
    const { row, remainingMs } = found;
    return this.#entry({ row, remainingMs: renewal.noteLookup(parent, row, remainingMs) });
  }

  #entry({ row, remainingMs }: Found): Entry {
    const { attributes, ttlMs } = this.attributes(row);
    return { node: row.id, attributes, ttlMs: Math.min(ttlMs, remainingMs), entryTtlMs: remainingMs };
  }

  /** Left by an earlier run and not open yet: the staging file knows the size, the row does not. */
  #stagedOf(row: NodeRow): { sizeBytes: number; mtime: NodeRow['mtime'] } | undefined {
    const staging = row.dirty ? this.#parts.context.journal.find(row.id) : undefined;
    return staging === undefined ? undefined : { sizeBytes: staging.sizeBytes, mtime: row.mtime };
  }

  /**
   * Attributes from a listing are for the walk that asked for them: a later look may already know better. But not in a directory that is too large
   * for all of it to be asked for: there they hold like the listing, or walking it would never become fast.
   */
  #isProvisional(row: NodeRow): boolean {
    if (row.complete || row.id === ROOT_NODE_ID || row.parent === undefined) return false;
    return !this.#parts.context.beliefs.isKnownLarge(row.parent);
  }
}
