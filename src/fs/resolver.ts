/**
 * From names to nodes: what the index remembers while it may be believed, and otherwise the cheapest question to the bucket. All other
 * operations find their nodes here.
 */

import { type ContentId, type NodeId, ROOT_NODE_ID } from '../base/ids.ts';
import { SingleFlight } from '../base/locks.ts';
import type { NodeFields, NodeRow } from '../index/contract.ts';
import { isStoreError, type ObjectHead } from '../store/contract.ts';
import type { Backlog } from './backlog.ts';
import type { FsContext } from './context.ts';
import type { Deletions } from './deletions.ts';
import { FsError, isOutage, isSilence } from './errors.ts';
import type { Lister } from './lister.ts';
import { decodeAttributes } from './metadata.ts';
import { NOTHING_KNOWN } from './new-node.ts';
import type { Retirement } from './retirement.ts';
import type { Tree } from './tree.ts';

/** While the bucket cannot be asked, what is remembered is believed for so long at a time. */
const OUTAGE_BELIEF_MS = 1000;

export interface Found {
  readonly row: NodeRow;
  /** How long this may be believed, ms. */
  readonly remainingMs: number;
}

export interface ResolverParts {
  readonly context: FsContext;
  readonly tree: Tree;
  readonly lister: Lister;
  readonly retirement: Retirement;
  readonly backlog: Backlog;
  readonly deletions: Deletions;
  /** Asks for the metadata of a file, in the background. */
  readonly wantMetadata: (id: NodeId) => void;
}

export class Resolver {
  readonly #context: FsContext;
  readonly #tree: Tree;
  readonly #lister: Lister;
  readonly #retirement: Retirement;
  readonly #backlog: Backlog;
  readonly #deletions: Deletions;
  readonly #asking = new SingleFlight<string, void>();
  readonly #completing = new SingleFlight<NodeId, NodeRow>();
  readonly #wantMetadata: (id: NodeId) => void;

  constructor({ context, tree, lister, retirement, backlog, deletions, wantMetadata }: ResolverParts) {
    this.#context = context;
    this.#tree = tree;
    this.#lister = lister;
    this.#retirement = retirement;
    this.#backlog = backlog;
    this.#deletions = deletions;
    this.#wantMetadata = wantMetadata;
  }

  /** The child of that name, or undefined when the bucket has none. Answers at once when the index may be believed. */
  find(parent: NodeId, name: string): Found | undefined | Promise<Found | undefined> {
    const directory = this.#tree.directory(parent);
    const row = this.#context.index.nodes.child(parent, name);
    if (row === undefined) {
      if (this.#context.beliefs.missingMs(directory, name) > 0) {
        this.#keepListed(directory);
        return undefined;
      }
      // Gone here, and the bucket will follow.
      if (this.#backlog.isPending(this.#tree.prefixOf(parent) + name)) return undefined;
    } else {
      const remainingMs = this.#context.beliefs.remainingMs(row);
      if (remainingMs > 0) {
        if (row.complete) return { row, remainingMs };
        return this.#withAttributes(row, remainingMs);
      }
    }
    return this.#ask(directory, name, row);
  }

  /** As `find`; ENOENT when there is none. */
  async need(parent: NodeId, name: string): Promise<NodeRow> {
    const found = await this.find(parent, name);
    if (found === undefined) throw new FsError('ENOENT');
    return found.row;
  }

  /** How long a name that `find` did not find may be called missing, ms. */
  missingMs(parent: NodeId, name: string): number {
    return this.#context.beliefs.missingMs(this.#tree.directory(parent), name);
  }

  /**
   * The row with the object's metadata, which a listing does not give: one HEAD, shared by all who wait. The row of another version
   * when the object was replaced meanwhile. `wantsContent`: the file is going to be read, so a GET of its first block brings both.
   */
  complete(row: NodeRow, wantsContent = false): Promise<NodeRow> {
    if (row.complete) return Promise.resolve(row);
    return this.#completing.run(row.id, async () => {
      if (wantsContent && row.kind === 'file') await this.#revalidateWithContent(row);
      else await this.#revalidate(row);
      const current = this.#context.index.nodes.get(row.id);
      if (current?.complete) return current;
      const successor = row.parent === undefined ? undefined : this.#context.index.nodes.child(row.parent, row.name);
      if (successor === undefined) throw new FsError('ENOENT');
      return successor;
    });
  }

  /** Asks the bucket about one node that is (or will soon be) too old to be believed. */
  async revalidate(id: NodeId): Promise<void> {
    const row = this.#context.index.nodes.get(id);
    if (row === undefined || row.parent === undefined || row.dirty) return;
    await this.#revalidate(row);
    const isSame = this.#context.index.nodes.child(row.parent, row.name)?.id === id;
    if (!isSame) this.#context.notifier.invalidateEntry(row.parent, row.name);
  }

  /** Takes over what a GET or HEAD of this very version told, if it still is this version; else the name gets a new node. */
  applyHead(row: NodeRow, head: ObjectHead, askedAtMs: number): NodeRow {
    const { index } = this.#context;
    const current = index.nodes.get(row.id);
    if (current === undefined || current.parent === undefined || current.dirty || current.validatedAtMs > askedAtMs) {
      return current ?? row;
    }
    const attributes = attributesOf(head, row.kind === 'directory', askedAtMs);
    if (row.kind !== 'directory' && (head.etag !== current.etag || attributes.kind !== current.kind)) {
      return this.#replace(current, attributes);
    }
    index.nodes.update(row.id, attributes);
    return this.#tree.row(row.id);
  }

  /** A fresh row for a name that the bucket has and the index has not. Gives way to a row that was made meanwhile. */
  #adopt(parent: NodeId, name: string, fields: NodeAttributes & Partial<NodeFields>, askedAtMs: number): void {
    const { index, beliefs } = this.#context;
    if (beliefs.wasRemovedSince(parent, name, askedAtMs)) return;
    if (index.nodes.child(parent, name) !== undefined) return;
    beliefs.notePresent(parent, name);
    index.nodes.insert({ ...NOTHING_KNOWN, ...fields, parent, name });
  }

  #replace(row: NodeRow, attributes: NodeAttributes): NodeRow {
    const { index } = this.#context;
    const parent = row.parent as NodeId;
    return index.transaction(() => {
      index.nodes.detach(row.id);
      const successor = index.nodes.insert({ ...NOTHING_KNOWN, ...attributes, parent, name: row.name });
      this.#retirement.retireId(row.id);
      return successor;
    });
  }

  #remove(row: NodeRow, askedAtMs: number): void {
    const current = this.#context.index.nodes.get(row.id);
    if (current?.parent === undefined || current.dirty || current.validatedAtMs > askedAtMs) return;
    this.#context.beliefs.noteMissing(current.parent, current.name, askedAtMs);
    this.#retirement.retire(current);
  }

  #withAttributes(row: NodeRow, remainingMs: number): Found | Promise<Found> {
    const parent = row.parent === undefined ? undefined : this.#context.index.nodes.get(row.parent);
    if (parent !== undefined && (this.#lister.isBeingWalked(parent) || this.#deletions.isEmptying(parent.id))) {
      // Whoever walks the directory gets what the listing told, and the rest follows in the background. A large one takes a while.
      if (this.#context.beliefs.isKnownLarge(parent.id)) this.#context.beliefs.noteWalk(parent.id);
      this.#wantMetadata(row.id);
      return { row, remainingMs };
    }
    return this.complete(row).then(
      (complete) => ({ row: complete, remainingMs: this.#context.beliefs.remainingMs(complete) }),
      (error: unknown) => {
        if (isOutage(error)) return { row, remainingMs: OUTAGE_BELIEF_MS };
        throw error;
      },
    );
  }

  async #ask(directory: NodeRow, name: string, row: NodeRow | undefined): Promise<Found | undefined> {
    try {
      await this.#asking.run(`${directory.id}/${name}`, () => this.#askBucket(directory, name, row));
    } catch (error) {
      const isKnown = row === undefined ? isSilence(error) && this.#mayBeMade(directory) : isOutage(error);
      if (!isKnown) throw error;
      this.#context.log.debug({ error: String(error), name }, 'the bucket cannot be asked: serving what is remembered');
      return row && { row, remainingMs: OUTAGE_BELIEF_MS };
    }
    const current = this.#context.index.nodes.child(directory.id, name);
    if (current === undefined) return undefined;
    // Asked just now, so this is never 0, however long the answer took.
    const remainingMs = Math.max(1, this.#context.beliefs.remainingMs(current));
    return current.complete ? { row: current, remainingMs } : await this.#withAttributes(current, remainingMs);
  }

  /**
   * With local durability files are made while the store is away: where the directory was listed, what it did not have is missing. Whether it is,
   * the upload finds out.
   */
  #mayBeMade(directory: NodeRow): boolean {
    return this.#context.options.durability === 'local' && directory.listedAtMs > 0;
  }

  async #askBucket(directory: NodeRow, name: string, row: NodeRow | undefined): Promise<void> {
    if (await this.#askForAll(directory, row)) {
      const listed = this.#context.index.nodes.child(directory.id, name);
      if (listed === undefined) return;
      if (listed.kind !== 'directory') return;
      row = listed;
    }
    if (row === undefined) await this.#probe(directory.id, name);
    else await this.#revalidate(row);
  }

  /** Lists the directory where that is the better question; false: it was not listed. */
  async #askForAll(directory: NodeRow, row: NodeRow | undefined): Promise<boolean> {
    const { beliefs } = this.#context;
    const isLarge = beliefs.isKnownLarge(directory.id);
    if (row !== undefined && isLarge) {
      // `rm -r` goes in the order of inode numbers where there are more than 10,000 names (gnulib's fts).
      if (this.#deletions.isEmptying(directory.id) && beliefs.prefersListing(directory.id))
        this.#listBehind(directory.id);
      return this.#vouchFor(directory, row);
    }
    if (row === undefined && beliefs.isFilling(directory)) {
      await this.#lister.refresh(directory.id);
      return true;
    }
    // A directory that was listed before, and is small, answers all its missing names with one request.
    const wantsListing =
      !isLarge && (beliefs.prefersListing(directory.id) || (row === undefined && directory.listedAtMs > 0));
    return wantsListing && (await this.#lister.refreshIfSmall(directory.id));
  }

  /** False: nobody takes the names of this large directory in order, or the page that was listed does not name this one. */
  async #vouchFor({ id }: NodeRow, { name }: NodeRow): Promise<boolean> {
    const { beliefs, index } = this.#context;
    const after = beliefs.noteStep(id, name);
    if (after === undefined) return false;
    await this.#lister.vouch(id, after, name);
    const current = index.nodes.child(id, name);
    return current === undefined || beliefs.remainingMs(current) > 0;
  }

  /** Whoever makes many files asks for the name of each first, and should not wait for the bucket to say that it is missing. */
  #keepListed(directory: NodeRow): void {
    if (this.#context.beliefs.wantsListingSoon(directory)) this.#listBehind(directory.id);
  }

  /** Nobody waits for it. */
  #listBehind(directory: NodeId): void {
    this.#lister.refresh(directory).catch((error: unknown) => {
      // Whoever asks next meets it, and is told.
      this.#context.log.debug({ error: String(error) }, 'a directory could not be listed ahead of time');
    });
  }

  /**
   * A name that nobody listed: GET of the first block brings attributes and content; if there is none, maybe a directory. In a large directory,
   * which was listed once, it is most likely a name that is about to be made: one LIST tells that there is neither.
   */
  async #probe(parent: NodeId, name: string): Promise<void> {
    const { index, downloader, clock, beliefs } = this.#context;
    const key = this.#tree.newKey(parent, name, 'file');
    const askedAtMs = clock.stampMs();
    if (beliefs.isKnownLarge(parent) && !(await this.#mayBeThere(key))) {
      beliefs.noteMissing(parent, name, askedAtMs);
      return;
    }
    let allocated: ContentId | undefined;
    const allocate = () => {
      allocated ??= index.contents.allocate();
      return allocated;
    };
    try {
      const { head, content } = await downloader.first(key, allocate);
      this.#adopt(parent, name, { ...attributesOf(head, false, askedAtMs), content }, askedAtMs);
    } catch (error) {
      if (!isStoreError(error, 'NotFound')) throw error;
      const isFound = await this.#probeDirectory(parent, name, `${key}/`);
      if (!isFound) beliefs.noteMissing(parent, name, askedAtMs);
    }
  }

  async #probeDirectory(parent: NodeId, name: string, prefix: string): Promise<boolean> {
    const { clock, index, beliefs } = this.#context;
    const askedAtMs = clock.stampMs();
    const first = await this.#firstKeyBelow(prefix);
    if (first === undefined) return false;
    const marked = first === prefix ? await this.#markerAttributes(prefix, askedAtMs) : undefined;
    const marker = marked === undefined ? undefined : '';
    this.#adopt(parent, name, { ...(marked ?? impliedDirectory(askedAtMs)), marker }, askedAtMs);
    const row = index.nodes.child(parent, name);
    if (row !== undefined) beliefs.noteMarkerSeen(row.id, askedAtMs);
    return true;
  }

  /** False: there is neither an object of that key nor a directory. True also when more than a page of others begin with it. */
  async #mayBeThere(key: string): Promise<boolean> {
    let isFirst = true;
    for await (const page of this.#context.store.list({ prefix: key, delimiter: '/' })) {
      if (!isFirst || page.objects.some((object) => object.key === key) || page.prefixes.includes(`${key}/`))
        return true;
      isFirst = false;
    }
    return false;
  }

  async #firstKeyBelow(prefix: string): Promise<string | undefined> {
    for await (const page of this.#context.store.list({ prefix, limit: 1 })) {
      const first = page.objects[0];
      if (first !== undefined) return first.key;
    }
    return undefined;
  }

  /** What the marker object says of its directory; undefined when there is none. */
  async #markerAttributes(key: string, askedAtMs: number): Promise<NodeAttributes | undefined> {
    try {
      return attributesOf(await this.#context.store.head(key), true, askedAtMs);
    } catch (error) {
      if (isStoreError(error, 'NotFound')) return undefined;
      throw error;
    }
  }

  async #revalidate(row: NodeRow): Promise<void> {
    if (row.id === ROOT_NODE_ID) return;
    if (row.kind === 'directory') return this.#revalidateDirectory(row);
    const { store, clock, index } = this.#context;
    const askedAtMs = clock.stampMs();
    const key = this.#tree.keyOf(row);
    try {
      this.applyHead(row, await store.head(key), askedAtMs);
    } catch (error) {
      if (!isStoreError(error, 'NotFound')) throw error;
      this.#remove(row, askedAtMs);
      if (row.parent !== undefined && index.nodes.child(row.parent, row.name) === undefined) {
        await this.#probeDirectory(row.parent, row.name, `${key}/`);
      }
    }
  }

  async #revalidateWithContent(row: NodeRow): Promise<void> {
    const { index, downloader, clock } = this.#context;
    const askedAtMs = clock.stampMs();
    // A content of its own: what comes may be another version than the row's.
    const allocate = () => index.contents.allocate();
    try {
      const { head, content } = await downloader.first(this.#tree.keyOf(row), allocate);
      const current = this.applyHead(row, head, askedAtMs);
      if (current.content === undefined && current.etag === head.etag) index.nodes.update(current.id, { content });
    } catch (error) {
      if (!isStoreError(error, 'NotFound')) throw error;
      this.#remove(row, askedAtMs);
    }
  }

  async #revalidateDirectory(row: NodeRow): Promise<void> {
    const { clock, index, beliefs } = this.#context;
    const askedAtMs = clock.stampMs();
    const found = await this.#askDirectory(row, askedAtMs);
    const current = index.nodes.get(row.id);
    if (current === undefined || current.dirty || current.validatedAtMs > askedAtMs) return;
    if (found === undefined) return this.#remove(row, askedAtMs);
    index.nodes.update(row.id, found);
    beliefs.noteMarkerSeen(row.id, askedAtMs);
  }

  /** One HEAD where a marker is expected, else one LIST; undefined when the directory is gone. */
  async #askDirectory(row: NodeRow, askedAtMs: number): Promise<Partial<NodeFields> | undefined> {
    if (row.marker !== undefined || !row.complete) {
      const marked = await this.#markerAttributes(this.#tree.keyOf(row), askedAtMs);
      if (marked !== undefined) return { ...marked, marker: row.marker ?? '' };
    }
    const prefix = this.#tree.prefixOf(row.id);
    const first = await this.#firstKeyBelow(prefix);
    if (first === undefined) return undefined;
    const marked = first === prefix ? await this.#markerAttributes(prefix, askedAtMs) : undefined;
    return marked === undefined ? { ...impliedDirectory(askedAtMs), marker: undefined } : { ...marked, marker: '' };
  }
}

/** What one HEAD or GET tells of a node. */
type NodeAttributes = Pick<
  NodeFields,
  | 'kind'
  | 'sizeBytes'
  | 'mode'
  | 'uid'
  | 'gid'
  | 'mtime'
  | 'ctime'
  | 'atime'
  | 'extras'
  | 'etag'
  | 'lastModifiedMs'
  | 'complete'
  | 'validatedAtMs'
>;

function attributesOf(head: ObjectHead, isDirectory: boolean, askedAtMs: number): NodeAttributes {
  return {
    ...decodeAttributes(head, isDirectory),
    sizeBytes: isDirectory ? 0 : head.sizeBytes,
    etag: head.etag,
    lastModifiedMs: head.lastModifiedMs,
    complete: true,
    validatedAtMs: askedAtMs,
  };
}

/** A directory without a marker says nothing about itself; its time must be the same on every server. */
function impliedDirectory(askedAtMs: number): NodeAttributes {
  return {
    kind: 'directory',
    sizeBytes: 0,
    mode: undefined,
    uid: undefined,
    gid: undefined,
    mtime: { sec: 0, nsec: 0 },
    ctime: undefined,
    atime: undefined,
    extras: undefined,
    etag: undefined,
    lastModifiedMs: undefined,
    complete: true,
    validatedAtMs: askedAtMs,
  };
}
