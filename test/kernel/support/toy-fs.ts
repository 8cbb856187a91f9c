/**
 * A small file system for tests of the driver: names and attributes in memory, contents in files of a scratch directory.
 * Some names misbehave on purpose: reading `hang…` waits to be interrupted, opening `defect…` fails with a programming
 * error, opening `never…` never answers.
 */
import { closeSync, fstatSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { type Timespec, timespecFromMs } from '../../../src/base/clock.ts';
import { type NodeId, ROOT_NODE_ID } from '../../../src/base/ids.ts';
import type {
  AttributeChange,
  Attributes,
  AttributesReply,
  Caller,
  DirectoryEntry,
  Entry,
  FileSystemStatus,
  NegativeEntry,
  OpenReply,
  Operations,
  ReadReply,
  RenameFlags,
  SetTime,
  WritePayload,
} from '../../../src/kernel/contract.ts';

const { errno: E } = constants;

export class ToyError extends Error {
  readonly errno: number;

  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

interface ToyNode {
  readonly id: NodeId;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  atime: Timespec;
  mtime: Timespec;
  ctime: Timespec;
  name: string;
  lookups: number;
  readonly children: Map<string, NodeId> | undefined;
  readonly target: string | undefined;
  readonly fd: number | undefined;
  readonly xattrs: Map<string, Uint8Array>;
}

export interface ToyOptions {
  /** Offer the content file for passthrough. */
  readonly backing: boolean;
  /** READ is answered with bytes instead of a piece of a file. */
  readonly bytes: boolean;
  /** Every operation answers with a promise. */
  readonly slow: boolean;
  readonly keepCache: boolean;
  readonly ttlMs: number;
}

export class ToyFileSystem implements Operations {
  readonly calls: Record<string, number> = {};
  destroyed = 0;
  aborted = 0;
  readonly #options: ToyOptions;
  readonly #directory: string;
  readonly #nodes = new Map<NodeId, ToyNode>();
  readonly #hanging: ((reply: ReadReply) => void)[] = [];
  #nextId = 16;

  constructor(scratch: string, options: ToyOptions) {
    this.#options = options;
    this.#directory = mkdtempSync(join(scratch, 'toy-'));
    this.#nodes.set(ROOT_NODE_ID, this.#newNode(ROOT_NODE_ID, '', 0o40755, process.getuid?.() ?? 0, 0));
  }

  /** Nodes that the kernel still holds. */
  get lookups(): number {
    return [...this.#nodes.values()].reduce((sum, node) => sum + node.lookups, 0);
  }

  nodeOf(path: string): NodeId {
    let id: NodeId = ROOT_NODE_ID;
    for (const name of path.split('/').filter(Boolean)) id = this.#child(id, name);
    return id;
  }

  /** A change that the kernel is not told of. */
  renameBehind(from: string, to: string): void {
    const root = this.#directoryOf(ROOT_NODE_ID);
    const id = this.#child(ROOT_NODE_ID, from);
    root.delete(from);
    root.set(to, id);
  }

  setSizeBehind(path: string, sizeBytes: number): void {
    ftruncateSync(this.#fd(this.nodeOf(path)), sizeBytes);
  }

  /** Ends the reads that hang, as if the file were empty. */
  letGo(): void {
    for (const release of this.#hanging.splice(0)) release({ kind: 'memory', pieces: [], release: () => undefined });
  }

  dispose(): void {
    for (const node of this.#nodes.values()) if (node.fd !== undefined) closeSync(node.fd);
    rmSync(this.#directory, { recursive: true });
  }

  lookup(_caller: Caller, parent: NodeId, name: string): Entry | NegativeEntry | Promise<Entry | NegativeEntry> {
    const id = this.#called('lookup').#directoryOf(parent).get(name);
    return this.#answer(id === undefined ? { node: undefined, entryTtlMs: this.#options.ttlMs } : this.#entry(id));
  }

  forget(node: NodeId, count: number): void {
    this.#called('forget').#get(node).lookups -= count;
  }

  getAttributes(_caller: Caller, node: NodeId): AttributesReply | Promise<AttributesReply> {
    return this.#called('getAttributes').#answer(this.#attributes(node));
  }

  setAttributes(_caller: Caller, id: NodeId, change: AttributeChange): AttributesReply | Promise<AttributesReply> {
    const node = this.#called('setAttributes').#get(id);
    if (change.mode !== undefined) node.mode = (node.mode & 0o170000) | change.mode;
    if (change.killPrivileges === true && node.children === undefined) node.mode &= ~0o6000;
    if (change.uid !== undefined) node.uid = change.uid;
    if (change.gid !== undefined) node.gid = change.gid;
    if (change.sizeBytes !== undefined) {
      ftruncateSync(this.#fd(id), change.sizeBytes);
      node.mtime = now();
    }
    if (change.atime !== undefined) node.atime = at(change.atime);
    if (change.mtime !== undefined) node.mtime = at(change.mtime);
    node.ctime = now();
    return this.#answer(this.#attributes(id));
  }

  readLink(_caller: Caller, node: NodeId): string | Promise<string> {
    return this.#called('readLink').#answer(this.#get(node).target ?? '');
  }

  makeSymlink(caller: Caller, parent: NodeId, name: string, target: string): Entry | Promise<Entry> {
    return this.#called('makeSymlink').#answer(this.#make(caller, parent, name, 0o120777, target));
  }

  makeNode(caller: Caller, parent: NodeId, name: string, mode: number): Entry | Promise<Entry> {
    return this.#called('makeNode').#answer(this.#make(caller, parent, name, mode));
  }

  makeDirectory(caller: Caller, parent: NodeId, name: string, mode: number): Entry | Promise<Entry> {
    return this.#called('makeDirectory').#answer(this.#make(caller, parent, name, 0o40000 | mode));
  }

  unlink(_caller: Caller, parent: NodeId, name: string): void {
    this.#called('unlink').#get(this.#child(parent, name)).nlink = 0;
    this.#directoryOf(parent).delete(name);
  }

  removeDirectory(_caller: Caller, parent: NodeId, name: string): void {
    if (this.#called('removeDirectory').#directoryOf(this.#child(parent, name)).size > 0)
      throw new ToyError(E.ENOTEMPTY);
    this.#directoryOf(parent).delete(name);
  }

  rename(_c: Caller, parent: NodeId, name: string, newParent: NodeId, newName: string, flags: RenameFlags): void {
    const id = this.#called('rename').#child(parent, name);
    const target = this.#directoryOf(newParent);
    if (flags.noReplace && target.has(newName)) throw new ToyError(E.EEXIST);
    this.#directoryOf(parent).delete(name);
    target.set(newName, id);
    this.#get(id).name = newName;
  }

  open(_caller: Caller, id: NodeId, flags: number): OpenReply | Promise<OpenReply> {
    const node = this.#called('open').#get(id);
    if (node.name.startsWith('defect')) throw new TypeError('a defect on purpose');
    if (node.name.startsWith('never')) return new Promise(() => undefined);
    if ((flags & O_TRUNC) !== 0) ftruncateSync(this.#fd(id), 0);
    return this.#answer(this.#openReply(id));
  }

  create(caller: Caller, parent: NodeId, name: string, mode: number) {
    const entry = this.#called('create').#make(caller, parent, name, mode);
    return this.#answer({ entry, open: this.#openReply(entry.node) });
  }

  read(caller: Caller, id: NodeId, offset: number, lengthBytes: number): ReadReply | Promise<ReadReply> {
    const fd = this.#called('read').#fd(id);
    if (this.#get(id).name.startsWith('hang')) return this.#hang(caller);
    if (!this.#options.bytes) {
      return this.#answer({ kind: 'file', fd, offset, lengthBytes, release: () => void this.#called('released') });
    }
    const bytes = Buffer.alloc(lengthBytes);
    const read = bytes.subarray(0, readSync(fd, bytes, 0, lengthBytes, offset));
    const half = Math.ceil(read.length / 2);
    const pieces = [read.subarray(0, half), read.subarray(half)];
    return this.#answer({ kind: 'memory', pieces, release: () => void this.#called('released') });
  }

  async write(_caller: Caller, id: NodeId, offset: number, payload: WritePayload): Promise<number> {
    await payload.toFile(this.#called('write').#fd(id), offset);
    this.#get(id).mtime = now();
    return payload.lengthBytes;
  }

  flush(): void {
    this.#called('flush');
  }

  fsync(): void {
    this.#called('fsync');
  }

  release(): void {
    this.#called('release');
  }

  openDirectory() {
    this.#called('openDirectory');
    return { cache: false, keepCache: false };
  }

  readDirectory(
    _caller: Caller,
    id: NodeId,
    offset: number,
    withEntries: boolean,
    take: (entry: DirectoryEntry) => boolean,
  ): void {
    this.#called(withEntries ? 'readDirectoryPlus' : 'readDirectory');
    const names: [string, NodeId][] = [['.', id], ['..', id], ...this.#directoryOf(id)];
    for (const [index, [name, child]] of names.entries()) {
      if (index < offset) continue;
      const typeMode = this.#get(child).mode & 0o170000;
      const plain = { name, nextOffset: index + 1, ino: BigInt(child), typeMode };
      if (!withEntries || name.startsWith('.')) {
        if (!take(plain)) return;
      } else if (take({ ...plain, entry: this.#entry(child) })) {
      } else {
        this.#get(child).lookups -= 1;
        return;
      }
    }
  }

  releaseDirectory(): void {
    this.#called('releaseDirectory');
  }

  fsyncDirectory(): void {
    this.#called('fsyncDirectory');
  }

  statFileSystem(): FileSystemStatus {
    return { blockSizeBytes: 4096, blocks: 1000, blocksFree: 600, files: 50, filesFree: 40, maxNameBytes: 255 };
  }

  access(): void {
    this.#called('access');
  }

  getXattr(_caller: Caller, node: NodeId, name: string): Uint8Array {
    const value = this.#called('getXattr').#get(node).xattrs.get(name);
    if (value === undefined) throw new ToyError(E.ENODATA);
    return value;
  }

  listXattrs(_caller: Caller, node: NodeId): readonly string[] {
    return [...this.#called('listXattrs').#get(node).xattrs.keys()];
  }

  setXattr(_caller: Caller, node: NodeId, name: string, value: Uint8Array, flags: number): void {
    const { xattrs } = this.#called('setXattr').#get(node);
    if (flags === 1 && xattrs.has(name)) throw new ToyError(E.EEXIST);
    if (flags === 2 && !xattrs.has(name)) throw new ToyError(E.ENODATA);
    xattrs.set(name, value);
  }

  removeXattr(_caller: Caller, node: NodeId, name: string): void {
    if (!this.#called('removeXattr').#get(node).xattrs.delete(name)) throw new ToyError(E.ENODATA);
  }

  allocate(_caller: Caller, node: NodeId, offset: number, lengthBytes: number, mode: number): void {
    if (mode !== 0) throw new ToyError(E.EOPNOTSUPP);
    const fd = this.#called('allocate').#fd(node);
    if (fstatSync(fd).size < offset + lengthBytes) ftruncateSync(fd, offset + lengthBytes);
  }

  seek(_caller: Caller, node: NodeId, offset: number, whence: number): number {
    const { size } = fstatSync(this.#called('seek').#fd(node));
    if (offset >= size) throw new ToyError(E.ENXIO);
    return whence === 3 ? offset : size;
  }

  copyRange(): number {
    this.#called('copyRange');
    throw new ToyError(E.EOPNOTSUPP);
  }

  destroy(): void {
    this.destroyed += 1;
  }

  errnoOf(error: unknown): number {
    if (error instanceof ToyError) return error.errno;
    const { errno } = error as NodeJS.ErrnoException;
    return errno === undefined ? E.EIO : -errno;
  }

  #hang(caller: Caller): Promise<ReadReply> {
    const { promise, resolve, reject } = Promise.withResolvers<ReadReply>();
    this.#hanging.push(resolve);
    caller.signal.addEventListener('abort', () => {
      this.aborted += 1;
      reject(new ToyError(E.EINTR));
    });
    return promise;
  }

  #openReply(id: NodeId): OpenReply {
    const { keepCache, backing } = this.#options;
    return { keepCache, ...(backing ? { backingFd: this.#fd(id) } : {}) };
  }

  #make(caller: Caller, parent: NodeId, name: string, mode: number, target?: string): Entry {
    const directory = this.#directoryOf(parent);
    if (directory.has(name)) throw new ToyError(E.EEXIST);
    const id = this.#nextId++ as NodeId;
    this.#nodes.set(id, this.#newNode(id, name, mode, caller.uid, caller.gid, target));
    directory.set(name, id);
    return this.#entry(id);
  }

  #newNode(id: NodeId, name: string, mode: number, uid: number, gid: number, target?: string): ToyNode {
    const time = now();
    const times = { atime: time, mtime: time, ctime: time };
    const children = (mode & 0o170000) === 0o40000 ? new Map<string, NodeId>() : undefined;
    const isFile = (mode & 0o170000) === 0o100000;
    const fd = isFile ? openSync(join(this.#directory, String(id)), 'wx+') : undefined;
    return { id, mode, uid, gid, nlink: 1, ...times, name, lookups: 0, children, target, fd, xattrs: new Map() };
  }

  #entry(id: NodeId): Entry {
    this.#get(id).lookups += 1;
    return { node: id, entryTtlMs: this.#options.ttlMs, ...this.#attributes(id) };
  }

  #attributes(id: NodeId): AttributesReply {
    const { mode, nlink, uid, gid, atime, mtime, ctime, fd, target } = this.#get(id);
    const sizeBytes = fd === undefined ? Buffer.byteLength(target ?? '') : fstatSync(fd).size;
    const blocks = Math.ceil(sizeBytes / 512);
    const attributes: Attributes = { ino: BigInt(id), mode, nlink, uid, gid, sizeBytes, blocks, atime, mtime, ctime };
    return { attributes, ttlMs: this.#options.ttlMs };
  }

  #get(id: NodeId): ToyNode {
    const node = this.#nodes.get(id);
    if (node === undefined) throw new ToyError(E.ESTALE);
    return node;
  }

  #directoryOf(id: NodeId): Map<string, NodeId> {
    const { children } = this.#get(id);
    if (children === undefined) throw new ToyError(E.ENOTDIR);
    return children;
  }

  #child(parent: NodeId, name: string): NodeId {
    const id = this.#directoryOf(parent).get(name);
    if (id === undefined) throw new ToyError(E.ENOENT);
    return id;
  }

  #fd(id: NodeId): number {
    const { fd } = this.#get(id);
    if (fd === undefined) throw new ToyError(E.EISDIR);
    return fd;
  }

  #called(operation: string): this {
    this.calls[operation] = (this.calls[operation] ?? 0) + 1;
    return this;
  }

  #answer<T>(value: T): T | Promise<T> {
    return this.#options.slow ? new Promise((resolve) => setTimeout(resolve, 1, value)) : value;
  }
}

const O_TRUNC = 0o1000;

function now(): Timespec {
  return timespecFromMs(Date.now());
}

function at(time: SetTime): Timespec {
  return time === 'now' ? now() : time;
}
