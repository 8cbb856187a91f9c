/** Reading directories: from the index, listed when what it holds is too old, as a stream while the first listing runs. */
import { FIRST_NODE_ID, type NodeId } from '../base/ids.ts';
import { RecentMap } from '../base/recent-map.ts';
import type { NodeRow } from '../index/contract.ts';
import type { DirectoryEntry, Entry, OpenDirectoryReply } from '../kernel/contract.ts';
import type { FsContext } from './context.ts';
import { isOutage } from './errors.ts';
import type { Lister, ListingProgress } from './lister.ts';
import { S_IFDIR, type Tree, typeModeOf } from './tree.ts';

/** Offsets of `.` and `..`; every other entry's offset is its node id, which is stable while the directory changes. */
const AFTER_DOT = 1;
const AFTER_DOTDOT = 2;

/** Rows read at a time: the 32 KiB that glibc asks for hold some 190 names with their attributes, or 800 without. */
const BATCH_ROWS = 256;

type Take = (entry: DirectoryEntry) => boolean;

/** Directories that are read at the same time; of further ones the metadata are asked for when a file is looked at again. */
const MAX_WALKS = 64;

export interface DirectoriesParts {
  readonly context: FsContext;
  readonly tree: Tree;
  readonly lister: Lister;
  /** undefined: the name only. */
  readonly entryOf: (row: NodeRow) => Entry | undefined;
  /** Asks for the metadata of a file, in the background. */
  readonly wantMetadata: (id: NodeId) => void;
}

export class Directories {
  readonly #context: FsContext;
  readonly #tree: Tree;
  readonly #lister: Lister;
  readonly #entryOf: (row: NodeRow) => Entry | undefined;
  readonly #wantMetadata: (id: NodeId) => void;
  /** What the latest piece of a directory said of files without having their metadata. */
  readonly #provisional = new RecentMap<NodeId, NodeId[]>(MAX_WALKS);

  constructor({ context, tree, lister, entryOf, wantMetadata }: DirectoriesParts) {
    this.#context = context;
    this.#tree = tree;
    this.#lister = lister;
    this.#entryOf = entryOf;
    this.#wantMetadata = wantMetadata;
  }

  open(id: NodeId): OpenDirectoryReply {
    const row = this.#tree.directory(id);
    this.#context.beliefs.noteWalk(id);
    return { cache: true, keepCache: this.#context.beliefs.isListingFresh(row) };
  }

  async read(id: NodeId, offset: number, withEntries: boolean, take: Take): Promise<void> {
    const row = this.#tree.directory(id);
    this.#context.beliefs.noteWalk(id);
    const noteGiven = withEntries ? this.#beginPiece(id, offset) : undefined;
    const progress = await this.#freshen(row, offset);
    if (!this.#giveDots(row, offset, take)) return;
    let after = Math.max(offset, FIRST_NODE_ID - 1);
    for (;;) {
      const rows = this.#context.index.nodes.children(id, after, BATCH_ROWS);
      for (const child of rows) {
        after = child.id;
        if (!take(this.#entry(child, withEntries))) return;
        noteGiven?.(child);
      }
      if (rows.length === BATCH_ROWS) continue;
      // What is there fills a reply, or all of it was given: wait for the listing only when there is nothing else to say.
      if (rows.length > 0 || progress === undefined || progress.isDone) return;
      await progress.nextPage();
    }
  }

  /**
   * The first piece has entries whoever reads, the later ones only where a file of the piece before was looked at (READDIRPLUS_AUTO in
   * fs/fuse/readdir.c): by this the kernel tells that the metadata are wanted, as it does not ask for the attributes that it was given.
   */
  #beginPiece(id: NodeId, offset: number): (child: NodeRow) => void {
    const isWanted = offset > 0 && !this.#context.beliefs.isKnownLarge(id);
    if (isWanted) for (const child of this.#provisional.get(id) ?? []) this.#wantMetadata(child);
    const given: NodeId[] = [];
    this.#provisional.set(id, given);
    return (child) => {
      if (!child.complete) given.push(child.id);
    };
  }

  /** The listing that is under way and may be read as it arrives; undefined when the index has all of a believed one. */
  async #freshen(row: NodeRow, offset: number): Promise<ListingProgress | undefined> {
    const { beliefs, index, log } = this.#context;
    const running = this.#lister.running(row.id);
    // Later pieces of one readdir go on with what the first one made sure of.
    if (offset > AFTER_DOTDOT) return running;
    if (beliefs.isListingFresh(row)) return undefined;
    if (running === undefined && row.listedAtMs === 0 && !index.nodes.hasChildren(row.id)) {
      const progress = this.#lister.stream(row.id);
      await progress.nextPage();
      return progress;
    }
    try {
      await this.#lister.refresh(row.id);
    } catch (error) {
      if (row.listedAtMs === 0 || !isOutage(error)) throw error;
      log.debug({ error: String(error), name: row.name }, 'the bucket cannot be listed: showing what is remembered');
    }
    return undefined;
  }

  #giveDots(row: NodeRow, offset: number, take: Take): boolean {
    const parent = row.parent === undefined ? row : (this.#context.index.nodes.get(row.parent) ?? row);
    const dots = [
      { name: '.', nextOffset: AFTER_DOT, ino: this.#tree.inodeOf(row) },
      { name: '..', nextOffset: AFTER_DOTDOT, ino: this.#tree.inodeOf(parent) },
    ];
    return dots.filter((dot) => dot.nextOffset > offset).every((dot) => take({ ...dot, typeMode: S_IFDIR }));
  }

  #entry(row: NodeRow, withEntry: boolean): DirectoryEntry {
    const entry = withEntry ? this.#entryOf(row) : undefined;
    const base = { name: row.name, nextOffset: row.id, typeMode: typeModeOf(row.kind) };
    return entry === undefined
      ? { ...base, ino: this.#tree.inodeOf(row) }
      : { ...base, ino: entry.attributes.ino, entry };
  }
}
