/**
 * Which files the driver may answer for by itself (see `HotNodes`): regular files that are opened for reading, whose metadata are known,
 * believed, and the same as the bucket's. Whatever changes a node withdraws it first.
 */
import type { NodeId } from '../base/ids.ts';
import type { NodeRow } from '../index/contract.ts';
import type { HotNodes, ReadReply } from '../kernel/contract.ts';
import type { FsContext } from './context.ts';
import type { OpenFiles } from './open-files.ts';
import type { Tree } from './tree.ts';

/** The driver's own limit. */
const MAX_NODES = 16_384;
/** At least so often an open comes here, so that cache and revalidation hear what is in use. */
const MAX_TTL_MS = 60_000;

/** After so long reads come here once, and the cache compares what is on its disk with the checksums. */
const MAX_CONTENT_MS = 3_600_000;

/** One time of being published, from the first open until something changes. */
export interface HotFile {
  readonly id: NodeId;
  row: NodeRow;
  untilMs: number;
  /** Since when the driver has the file, monotonic; undefined: it has not. */
  contentSinceMs: number | undefined;
}

export class HotFiles {
  readonly #context: FsContext;
  readonly #tree: Tree;
  readonly #openFiles: OpenFiles;
  readonly #believedMs: (row: NodeRow) => number;
  /** In order of their last publishing. */
  readonly #published = new Map<NodeId, HotFile>();
  #driver: HotNodes | undefined;

  /** `believedMs`: how long others may believe what a row says. */
  constructor(context: FsContext, tree: Tree, openFiles: OpenFiles, believedMs: (row: NodeRow) => number) {
    this.#context = context;
    this.#tree = tree;
    this.#openFiles = openFiles;
    this.#believedMs = believedMs;
    context.index.nodes.onChange = (id) => this.withdraw(id);
    openFiles.recall = (id) => this.withdraw(id);
  }

  connect(driver: HotNodes): void {
    this.#driver = driver;
  }

  find(id: NodeId): HotFile | undefined {
    return this.#published.get(id);
  }

  /** To be called for each open for reading. */
  offer(id: NodeId): void {
    const row = this.#driver && this.#context.index.nodes.get(id);
    if (row === undefined || !this.#isSettled(row)) return;
    if (row.content !== undefined) this.#context.cache.touch(row.content);
    this.#makeRoom();
    const known = this.#published.get(id);
    if (known !== undefined && this.#isOld(known)) this.withdraw(id);
    const hot = this.#published.get(id) ?? { id, row, untilMs: 0, contentSinceMs: undefined };
    hot.row = row;
    this.#publish(hot, undefined);
  }

  #isOld({ contentSinceMs }: HotFile): boolean {
    return contentSinceMs !== undefined && this.#context.clock.monotonicMs() - contentSinceMs >= MAX_CONTENT_MS;
  }

  /**
   * Such a read may bring the whole content in one file, for the driver to read from. `hot` is what `find` returned before the read: if it is
   * still published, nothing has changed meanwhile.
   */
  noteRead(hot: HotFile, offset: number, reply: ReadReply): void {
    if (hot.contentSinceMs !== undefined || this.#published.get(hot.id) !== hot || reply.kind !== 'file') return;
    if (offset !== 0 || reply.offset !== 0 || reply.lengthBytes !== hot.row.sizeBytes) return;
    hot.contentSinceMs = this.#context.clock.monotonicMs();
    this.#publish(hot, reply.fd);
  }

  /** From here on all that concerns the node comes here. Opens that the driver has answered count like others then. */
  withdraw(id: NodeId): void {
    if (!this.#published.delete(id)) return;
    const opens = this.#driver?.withdraw(id) ?? 0;
    if (opens > 0) this.#openFiles.adopt(id, opens);
  }

  #publish(hot: HotFile, fd: number | undefined): void {
    const { clock } = this.#context;
    const ttlMs = Math.min(this.#believedMs(hot.row), MAX_TTL_MS);
    if (ttlMs < 1) return;
    const attributes = this.#tree.attributesOf(hot.row);
    if (this.#driver?.publish(hot.id, { attributes, ttlMs, fd }) !== true) return;
    hot.untilMs = clock.monotonicMs() + ttlMs;
    this.#published.delete(hot.id);
    this.#published.set(hot.id, hot);
  }

  /** What nobody has opened for long goes, and with it its file; others go when there are too many. */
  #makeRoom(): void {
    const nowMs = this.#context.clock.monotonicMs();
    for (const { id, untilMs } of this.#published.values()) {
      if (untilMs > nowMs && this.#published.size < MAX_NODES) return;
      this.withdraw(id);
    }
  }

  #isSettled(row: NodeRow): boolean {
    if (row.kind !== 'file' || !row.complete || row.dirty || row.parent === undefined || row.etag === undefined)
      return false;
    const file = this.#openFiles.find(row.id);
    return file === undefined || (file.staging === undefined && file.writers === 0);
  }
}
