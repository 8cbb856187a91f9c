/**
 * The file system as a read-only mount sees it, whose kernel is told once that files need not be opened: hot reads then ask nothing. So who has
 * a file open is not known; a node that lost its name stays until this kernel forgets it.
 */
import { type NodeId, ROOT_NODE_ID } from '../base/ids.ts';
import type {
  AttributesReply,
  Caller,
  DirectoryEntry,
  Entry,
  NegativeEntry,
  Notifier,
  Operations,
  ReadReply,
} from '../kernel/contract.ts';
import { FsError } from './errors.ts';
import { KernelMemory } from './kernel-memory.ts';
import { Lingering } from './lingering.ts';
import type { OpenFiles } from './open-files.ts';
import type { Retirement } from './retirement.ts';

export interface ViewParts {
  readonly operations: Operations;
  readonly openFiles: OpenFiles;
  readonly retirement: Retirement;
  /** The kernel may know all nodes up to this one from an earlier process; 0: it knows none. */
  readonly knownUpTo: number;
}

/** The kernel refuses by itself what changes anything, until somebody remounts the view as writable. */
function refuse(): never {
  throw new FsError('EROFS');
}

export class ReadOnlyView implements Operations {
  readonly #operations: Operations;
  readonly #openFiles: OpenFiles;
  readonly #retirement: Retirement;
  readonly #memory: KernelMemory;
  readonly #lingering: Lingering;

  constructor({ operations, openFiles, retirement, knownUpTo }: ViewParts) {
    this.#memory = new KernelMemory(knownUpTo);
    this.#operations = operations;
    this.#openFiles = openFiles;
    this.#retirement = retirement;
    this.#lingering = new Lingering(openFiles);
    retirement.addHolder(this.#memory);
  }

  /** Passes on what concerns nodes that the kernel knows. */
  notifierOver(notifier: Notifier): Notifier {
    return {
      invalidateEntry: (parent, name) => {
        if (this.#knows(parent)) notifier.invalidateEntry(parent, name);
      },
      invalidateNode: (node, offset, lengthBytes) => {
        if (this.#knows(node)) notifier.invalidateNode(node, offset, lengthBytes);
      },
    };
  }

  close(): void {
    this.#lingering.close();
    this.#retirement.removeHolder(this.#memory);
  }

  async lookup(caller: Caller, parent: NodeId, name: string): Promise<Entry | NegativeEntry> {
    const entry = await this.#operations.lookup(caller, parent, name);
    return entry.node === undefined ? entry : this.#told(entry);
  }

  forget(id: NodeId): void {
    this.#memory.forget(id);
    this.#retirement.forgotten(id);
  }

  async getAttributes(caller: Caller, id: NodeId): Promise<AttributesReply> {
    return this.#settled(id, await this.#operations.getAttributes(caller, id));
  }

  readDirectory(
    caller: Caller,
    id: NodeId,
    offset: number,
    withEntries: boolean,
    take: (entry: DirectoryEntry) => boolean,
  ) {
    return this.#operations.readDirectory(caller, id, offset, withEntries, (listed) => {
      if (listed.entry === undefined) return take(listed);
      const isTaken = take({ ...listed, entry: this.#settled(listed.entry.node, listed.entry) });
      if (isTaken) this.#memory.note(listed.entry.node);
      return isTaken;
    });
  }

  read(caller: Caller, id: NodeId, offset: number, lengthBytes: number): Promise<ReadReply> {
    return this.#openFiles.use(id, async (file) => {
      if (file.staging === undefined) this.#lingering.keep(file);
      return this.#operations.read(caller, id, offset, lengthBytes);
    });
  }

  // A kernel that cannot do without asks all the same.
  open = (...args: Parameters<Operations['open']>) => this.#operations.open(...args);
  release = (...args: Parameters<Operations['release']>) => this.#operations.release(...args);
  flush(): void {}
  fsync(): void {}

  openDirectory = (...args: Parameters<Operations['openDirectory']>) => this.#operations.openDirectory(...args);
  releaseDirectory = (...args: Parameters<Operations['releaseDirectory']>) =>
    this.#operations.releaseDirectory(...args);
  fsyncDirectory(): void {}
  readLink = (...args: Parameters<Operations['readLink']>) => this.#operations.readLink(...args);
  statFileSystem = (...args: Parameters<Operations['statFileSystem']>) => this.#operations.statFileSystem(...args);
  access = (...args: Parameters<Operations['access']>) => this.#operations.access(...args);
  getXattr = (...args: Parameters<Operations['getXattr']>) => this.#operations.getXattr(...args);
  listXattrs = (...args: Parameters<Operations['listXattrs']>) => this.#operations.listXattrs(...args);
  seek = (...args: Parameters<Operations['seek']>) => this.#operations.seek(...args);
  errnoOf = (error: unknown) => this.#operations.errnoOf(error);

  setAttributes = refuse;
  makeSymlink = refuse;
  makeNode = refuse;
  makeDirectory = refuse;
  unlink = refuse;
  removeDirectory = refuse;
  rename = refuse;
  create = refuse;
  write = refuse;
  setXattr = refuse;
  removeXattr = refuse;
  allocate = refuse;
  copyRange = refuse;

  /** The file system goes on: this may not be its only mount. */
  destroy(): void {
    this.close();
  }

  #knows(id: NodeId): boolean {
    return id === ROOT_NODE_ID || this.#memory.knows(id);
  }

  #told(entry: Entry): Entry {
    this.#memory.note(entry.node);
    return this.#settled(entry.node, entry);
  }

  /** While somebody writes, size and times change without a word: they hold for no longer than this answer. */
  #settled<T extends AttributesReply>(id: NodeId, reply: T): T {
    return this.#openFiles.find(id)?.staging === undefined ? reply : { ...reply, ttlMs: 0 };
  }
}
