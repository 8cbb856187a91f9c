/** The operations that a kernel driver calls, put together from their families. */
import type { NodeId } from '../base/ids.ts';
import { KeyedLock, SharedLock } from '../base/locks.ts';
import type { NodeKind, NodeRow } from '../index/contract.ts';
import { isDamage } from '../index/damage.ts';
import type {
  AttributeChange,
  AttributesReply,
  Caller,
  DirectoryEntry,
  Entry,
  FileSystemStatus,
  HotNodes,
  NegativeEntry,
  Notifier,
  OpenDirectoryReply,
  OpenRecord,
  OpenReply,
  Operations,
  ReadReply,
  RenameFlags,
  WritePayload,
} from '../kernel/contract.ts';
import { AttributeChanges } from './attributes.ts';
import { Backlog } from './backlog.ts';
import { Committer } from './committer.ts';
import { Completer } from './completer.ts';
import { Contents } from './content.ts';
import type { FsContext } from './context.ts';
import { Deletions } from './deletions.ts';
import { Directories } from './directory.ts';
import { Drainer } from './drainer.ts';
import { errnoOf, FsError } from './errors.ts';
import { HiddenKeys } from './hidden-keys.ts';
import { HotFiles } from './hot-files.ts';
import { Lister } from './lister.ts';
import { Markers } from './markers.ts';
import { Namespace } from './namespace.ts';
import { NextFiles } from './next-files.ts';
import { OpenFiles } from './open-files.ts';
import { changes, Opens, writes } from './opens.ts';
import { ReadOnlyView } from './read-only-view.ts';
import { reclaimStrays } from './reclaim.ts';
import { Renames } from './renames.ts';
import { Renewal } from './renewal.ts';
import { Replies } from './replies.ts';
import { resumable } from './resent.ts';
import { Resolver } from './resolver.ts';
import { Retirement } from './retirement.ts';
import { Space } from './space.ts';
import { S_IFMT, S_IFREG, Tree } from './tree.ts';

/** Others (`security.*`, `system.*`) are asked for by the kernel and by `ls` all the time, and are never stored. */
const STORED_XATTRS = ['user.', 'trusted.'];

/** `yes` when a mount begins: the one before ended by a crash. */
const IN_USE_FACT = 'fs.inUse';

export interface FsStatus {
  readonly openFiles: number;
  readonly waitingForMetadata: number;
  /** Objects in the directories that were listed whose keys cannot be file names, or whose name a directory has. */
  readonly hiddenKeys: number;
  /** Directories that are listed all the time, so that the kernel need not ask for their names. */
  readonly watchedDirectories: number;
}

export class FileSystem implements Operations {
  readonly #context: FsContext;
  readonly #tree: Tree;
  readonly #openFiles: OpenFiles;
  readonly #retirement: Retirement;
  readonly #backlog: Backlog;
  readonly #deletions: Deletions;
  readonly #lister: Lister;
  readonly #resolver: Resolver;
  readonly #completer: Completer;
  readonly #contents: Contents;
  readonly #committer: Committer;
  readonly #drainer: Drainer;
  readonly #renewal: Renewal;
  readonly #namespace: Namespace;
  readonly #renames: Renames;
  readonly #attributes: AttributeChanges;
  readonly #directories: Directories;
  readonly #hotFiles: HotFiles;
  readonly #opens: Opens;
  readonly #space: Space;
  readonly #hiddenKeys: HiddenKeys;
  readonly #replies: Replies;

  constructor(context: FsContext) {
    this.#context = context;
    this.#hiddenKeys = new HiddenKeys(context.log);
    this.#tree = new Tree(context);
    this.#openFiles = new OpenFiles((file) => this.#committer.settle(file));
    this.#hotFiles = new HotFiles(context, this.#tree, this.#openFiles, (row) => this.#renewal.believedMs(row));
    this.#retirement = new Retirement(context, () => this.#openFiles);
    const backlog = new Backlog(context);
    this.#backlog = backlog;
    const deletions = new Deletions(context, backlog);
    this.#deletions = deletions;
    this.#lister = new Lister(context, this.#tree, this.#retirement, backlog, this.#hiddenKeys);
    const wantMetadata = (id: NodeId) => {
      // The next one to be deleted is looked up, too, and its metadata are for nobody.
      if (!deletions.isBurst) this.#completer.want(id);
    };
    this.#resolver = new Resolver({
      context,
      tree: this.#tree,
      lister: this.#lister,
      retirement: this.#retirement,
      backlog,
      deletions,
      wantMetadata,
    });
    this.#completer = new Completer(context, this.#resolver, this.#lister);
    this.#contents = new Contents(context, this.#tree, this.#resolver, this.#openFiles);
    const parts = {
      context,
      tree: this.#tree,
      resolver: this.#resolver,
      contents: this.#contents,
      openFiles: this.#openFiles,
      backlog,
      deletions,
      markers: new Markers(context, this.#tree, backlog, this.#hiddenKeys),
      retirement: this.#retirement,
      nodeLocks: new KeyedLock<NodeId>(),
      keyGate: new SharedLock(),
    };
    this.#committer = new Committer(parts);
    this.#drainer = new Drainer(context, this.#committer, this.#openFiles, backlog);
    this.#renewal = new Renewal(context, this.#resolver, this.#lister);
    this.#replies = new Replies({ ...parts, renewal: this.#renewal });
    this.#namespace = new Namespace(parts);
    this.#renames = new Renames(parts);
    this.#attributes = new AttributeChanges({ ...parts, committer: this.#committer });
    this.#opens = new Opens({
      ...parts,
      attributes: this.#attributes,
      committer: this.#committer,
      namespace: this.#namespace,
      hotFiles: this.#hotFiles,
      nextFiles: new NextFiles(context, this.#resolver, this.#contents),
    });
    this.#space = new Space(parts);
    this.#directories = new Directories({
      context,
      tree: this.#tree,
      lister: this.#lister,
      entryOf: (row) => this.#replies.listed(row),
      wantMetadata,
    });
  }

  /**
   * Takes over what an earlier process left, before the first request. `inherited`: the mount goes on, and these opens are to be counted; the
   * kernel keeps its node ids.
   */
  async recover(inherited: readonly OpenRecord[] | undefined): Promise<void> {
    const { index, beliefs } = this.#context;
    if (inherited === undefined && index.getFact(IN_USE_FACT) === 'yes') beliefs.distrust();
    index.setFact(IN_USE_FACT, 'yes');
    this.#deletions.recover();
    await this.#renames.recover(inherited !== undefined);
    await this.#drainer.recover(inherited && new Set(inherited.map(({ node }) => node)));
    await reclaimStrays(this.#context);
    if (inherited === undefined) return;
    this.#retirement.inherit(this.#context.index.nodes.lastId());
    this.#renewal.inherit();
    for (const record of inherited) await this.#opens.reopen(record);
  }

  /** What the bucket is still owed: for the composition root, which drains and closes. */
  get drainer(): Drainer {
    return this.#drainer;
  }

  /**
   * From here on the kernel is told what changes, and `hotNodes`, if given, answers for files in use that do not. `takesBackingFiles`: files
   * of the cache may be offered to the driver, too.
   */
  connect(notifier: Notifier, hotNodes?: HotNodes, takesBackingFiles = () => false): void {
    this.#context.notifier = notifier;
    this.#context.takesBackingFiles = takesBackingFiles;
    if (hotNodes === undefined) return;
    hotNodes.limitXattrs(STORED_XATTRS);
    this.#hotFiles.connect(hotNodes);
  }

  /** The operations of a mount that only reads: this one, or one beside it. `continues`: its kernel knows nodes from before. Closed by the caller. */
  view(continues: boolean): ReadOnlyView {
    const knownUpTo = continues ? this.#context.index.nodes.lastId() : 0;
    return new ReadOnlyView({ operations: this, openFiles: this.#openFiles, retirement: this.#retirement, knownUpTo });
  }

  /** The kernel of a view beside the main mount is told what the main mount's is, and what is changed there. Call after `connect`. */
  connectView(notifier: Notifier, hotNodes?: HotNodes): void {
    hotNodes?.limitXattrs(STORED_XATTRS);
    const main = this.#context.notifier;
    this.#context.views = notifier;
    this.#context.notifier = {
      invalidateEntry: (parent, name) => {
        main.invalidateEntry(parent, name);
        notifier.invalidateEntry(parent, name);
      },
      invalidateNode: (node, offset, lengthBytes) => {
        main.invalidateNode(node, offset, lengthBytes);
        notifier.invalidateNode(node, offset, lengthBytes);
      },
    };
  }

  status(): FsStatus {
    return {
      openFiles: this.#openFiles.size,
      waitingForMetadata: this.#completer.waiting,
      hiddenKeys: this.#hiddenKeys.total,
      watchedDirectories: this.#renewal.watchedDirectories,
    };
  }

  close(): void {
    this.#completer.close();
    this.#renewal.close();
    this.#drainer.close();
    this.#renames.close();
    this.#backlog.close();
    this.#context.index.setFact(IN_USE_FACT, 'no');
  }

  lookup(_caller: Caller, parent: NodeId, name: string): Entry | NegativeEntry | Promise<Entry | NegativeEntry> {
    const found = this.#resolver.find(parent, name);
    if (found instanceof Promise) return found.then((answer) => this.#replies.lookup(parent, name, answer));
    return this.#replies.lookup(parent, name, found);
  }

  /** Nodes resolve from the index, and open ones are counted: only of those that were open before this process began, this is the end. */
  forget(id: NodeId): void {
    this.#retirement.forgottenByHeir(id);
  }

  getAttributes(_caller: Caller, id: NodeId): AttributesReply | Promise<AttributesReply> {
    const row = this.#tree.row(id);
    const file = this.#openFiles.find(id);
    if (file?.mayHaveUnseenWrites) {
      return this.#openFiles.use(id, async (used) => {
        await this.#contents.notice(used);
        return this.#replies.attributes(this.#tree.row(id));
      });
    }
    if (row.complete || row.parent === undefined) return this.#replies.attributes(row);
    const parent = this.#tree.row(row.parent);
    if (this.#lister.isBeingWalked(parent)) {
      this.#completer.want(id);
      return this.#replies.attributes(row);
    }
    return this.#resolver.complete(row).then((complete) => {
      if (complete.id !== id) throw new FsError('ESTALE');
      return this.#replies.attributes(complete);
    });
  }

  async setAttributes(_caller: Caller, id: NodeId, change: AttributeChange): Promise<AttributesReply> {
    this.#checkWritable();
    await this.#attributes.set(id, change);
    await this.#replies.lookAtFile(id);
    return this.#replies.attributes(this.#tree.row(id));
  }

  async readLink(_caller: Caller, id: NodeId): Promise<string> {
    const row = this.#tree.row(id);
    if (row.kind !== 'symlink') throw new FsError('EINVAL');
    if (row.target !== undefined) return row.target;
    const target = await this.#contents.readText(id);
    this.#context.index.nodes.update(id, { target });
    return target;
  }

  async makeSymlink(caller: Caller, parent: NodeId, name: string, target: string): Promise<Entry> {
    this.#checkWritable();
    const make = async () => this.#replies.fresh(await this.#namespace.makeSymlink(parent, name, target, caller));
    return resumable(caller, 'EEXIST', make, () => this.#existing(parent, name, 'symlink'));
  }

  async makeNode(caller: Caller, parent: NodeId, name: string, mode: number): Promise<Entry> {
    this.#checkWritable();
    const type = mode & S_IFMT;
    if (type !== S_IFREG && type !== 0) throw new FsError('EPERM');
    const id = await this.#makeFile(caller, parent, name, mode);
    await this.#opens.commitNew(id);
    return this.#replies.fresh(this.#tree.row(id));
  }

  async makeDirectory(caller: Caller, parent: NodeId, name: string, mode: number): Promise<Entry> {
    this.#checkWritable();
    const make = async () => this.#replies.fresh(await this.#namespace.makeDirectory(parent, name, mode, caller));
    return resumable(caller, 'EEXIST', make, () => this.#existing(parent, name, 'directory'));
  }

  unlink(caller: Caller, parent: NodeId, name: string): Promise<void> {
    this.#checkWritable();
    return resumable(caller, 'ENOENT', () => this.#namespace.unlink(parent, name), nothing);
  }

  removeDirectory(caller: Caller, parent: NodeId, name: string): Promise<void> {
    this.#checkWritable();
    return resumable(caller, 'ENOENT', () => this.#namespace.removeDirectory(parent, name), nothing);
  }

  rename(caller: Caller, from: NodeId, name: string, to: NodeId, newName: string, flags: RenameFlags): Promise<void> {
    this.#checkWritable();
    const move = () => this.#renames.rename(from, name, to, newName, { ...flags, isResent: caller.isResent });
    return resumable(caller, 'ENOENT', move, async () => {
      await this.#resolver.need(to, newName);
    });
  }

  async open(_caller: Caller, id: NodeId, flags: number, killPrivileges: boolean): Promise<OpenReply> {
    if (changes(flags)) this.#checkWritable();
    const row = await this.#currentVersion(id, !writes(flags));
    if (row.kind !== 'file') throw new FsError('ELOOP');
    return this.#opens.open(row, flags, killPrivileges);
  }

  async create(caller: Caller, parent: NodeId, name: string, mode: number, flags: number) {
    this.#checkWritable();
    const id = await this.#makeFile(caller, parent, name, mode);
    const open = await this.#opens.openNew(id, flags);
    return { entry: this.#replies.fresh(this.#tree.row(id)), open };
  }

  async read(caller: Caller, id: NodeId, offset: number, lengthBytes: number): Promise<ReadReply> {
    const hot = this.#hotFiles.find(id);
    const reply = await this.#contents.read(id, offset, lengthBytes, caller.signal);
    if (hot !== undefined) this.#hotFiles.noteRead(hot, offset, reply);
    return reply;
  }

  write(
    _caller: Caller,
    id: NodeId,
    offset: number,
    payload: WritePayload,
    options: { readonly killPrivileges: boolean },
  ): Promise<number> {
    return this.#contents.write(id, offset, payload, options.killPrivileges);
  }

  flush(caller: Caller, id: NodeId): Promise<void> {
    return this.#committer.flush(id, caller.pid);
  }

  fsync(_caller: Caller, id: NodeId): Promise<void> {
    return this.#committer.makeDurable(id);
  }

  release(id: NodeId, flags: number): void {
    this.#opens.release(id, flags);
  }

  openDirectory(_caller: Caller, id: NodeId): OpenDirectoryReply {
    return this.#directories.open(id);
  }

  readDirectory(
    _caller: Caller,
    id: NodeId,
    offset: number,
    withEntries: boolean,
    take: (entry: DirectoryEntry) => boolean,
  ): Promise<void> {
    return this.#directories.read(id, offset, withEntries, take);
  }

  releaseDirectory(): void {}

  fsyncDirectory(): void {
    // Names are in the bucket before the operation that changes them returns.
  }

  statFileSystem(): FileSystemStatus {
    return this.#space.status();
  }

  access(_caller: Caller, id: NodeId): void {
    // Mounted with default_permissions: the kernel checks modes itself, and asks here only whether the node is there.
    this.#tree.row(id);
  }

  async getXattr(_caller: Caller, id: NodeId, name: string): Promise<Uint8Array> {
    if (!isStoredXattr(name)) throw new FsError('ENODATA');
    return this.#attributes.getXattr(await this.#currentVersion(id), name);
  }

  async listXattrs(_caller: Caller, id: NodeId): Promise<readonly string[]> {
    const row = this.#tree.row(id);
    if (row.complete) return this.#attributes.listXattrs(row);
    this.#completer.goAhead(row);
    return this.#attributes.listXattrs(await this.#currentVersion(id));
  }

  async setXattr(caller: Caller, id: NodeId, name: string, value: Uint8Array, flags: number): Promise<void> {
    this.#checkWritable();
    if (!isStoredXattr(name)) throw new FsError('EOPNOTSUPP');
    await resumable(caller, 'EEXIST', () => this.#attributes.setXattr(id, name, value, flags), nothing);
  }

  async removeXattr(caller: Caller, id: NodeId, name: string): Promise<void> {
    this.#checkWritable();
    if (!isStoredXattr(name)) throw new FsError('EOPNOTSUPP');
    await resumable(caller, 'ENODATA', () => this.#attributes.removeXattr(id, name), nothing);
  }

  allocate(_caller: Caller, id: NodeId, offset: number, lengthBytes: number, mode: number): Promise<void> {
    this.#checkWritable();
    return this.#space.allocate(id, offset, lengthBytes, mode);
  }

  seek(_caller: Caller, id: NodeId, offset: number, whence: number): Promise<number> {
    return this.#space.seek(id, offset, whence);
  }

  /** A whole file onto an empty one is a copy on the server; anything else the kernel does itself, by reads and writes. */
  async copyRange(
    _caller: Caller,
    source: NodeId,
    sourceOffset: number,
    target: NodeId,
    targetOffset: number,
    lengthBytes: number,
  ): Promise<number> {
    this.#checkWritable();
    if (sourceOffset !== 0 || targetOffset !== 0 || source === target) throw new FsError('EOPNOTSUPP');
    return this.#committer.copyWhole(source, target, lengthBytes);
  }

  destroy(): void {
    this.close();
  }

  errnoOf(error: unknown): number {
    if (isDamage(error)) this.#context.noteIndexDamage();
    return errnoOf(error);
  }

  #makeFile(caller: Caller, parent: NodeId, name: string, mode: number): Promise<NodeId> {
    const make = async () => (await this.#namespace.createFile(parent, name, mode, caller)).id;
    return resumable(caller, 'EEXIST', make, async () => (await this.#existing(parent, name, 'file')).node);
  }

  /** What a request that comes again had made before. */
  async #existing(parent: NodeId, name: string, kind: NodeKind): Promise<Entry> {
    const row = await this.#resolver.need(parent, name);
    if (row.kind !== kind) throw new FsError('EEXIST');
    return this.#replies.fresh(row);
  }

  #checkWritable(): void {
    if (this.#context.options.readOnly) throw new FsError('EROFS');
  }

  /** The node with all that the bucket tells of it; ESTALE when the name leads to another version now. */
  async #currentVersion(id: NodeId, wantsContent = false): Promise<NodeRow> {
    const row = this.#tree.row(id);
    if (row.complete) return row;
    const complete = await this.#resolver.complete(row, wantsContent);
    if (complete.id !== id) {
      if (row.parent !== undefined) this.#context.notifier.invalidateEntry(row.parent, row.name);
      throw new FsError('ESTALE');
    }
    // What the kernel was told from the listing is outdated.
    this.#context.notifier.invalidateNode(id, -1, 0);
    return complete;
  }
}

function nothing(): void {}

function isStoredXattr(name: string): boolean {
  return STORED_XATTRS.some((prefix) => name.startsWith(prefix));
}
