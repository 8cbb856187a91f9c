/** Libfuse's calls, by path and handle, as operations on nodes. */
import { constants, read, write } from 'node:fs';
import { promisify } from 'node:util';
import type { Timespec } from '../base/clock.ts';
import type { NodeId } from '../base/ids.ts';
import type { Answer, AttributeChange, Caller, Operations, WritePayload } from './contract.ts';
import { systemError } from './errors.ts';
import type { LibfuseCalls, Listing } from './portable-binding.ts';
import { type Holding, isHiddenName, type PathNames } from './portable-names.ts';
import { statfsOf, statOf, statOfEntry } from './portable-values.ts';
import { ERRNO } from './protocol.ts';

const readFile = promisify(read);
const writeFile = promisify(write);

const MAX_HANDLE = 0x7fff_ffff;
/** The binding does not tell the flags of a create. The kernel checks the access mode, and nobody can have a new file open otherwise. */
const CREATE_FLAGS = constants.O_RDWR | constants.O_CREAT;
/** (uid_t) -1. */
const UNCHANGED_ID = 0xffff_ffff;

/** What libfuse has open. */
interface Handle {
  readonly holding: Holding;
  readonly flags: number;
}

export class PortableCalls implements LibfuseCalls {
  readonly #operations: Operations;
  readonly #names: PathNames;
  readonly #caller: Caller;
  /** As many as files are open. */
  readonly #handles = new Map<number, Handle>();
  #lastHandle = 0;

  constructor(operations: Operations, names: PathNames, caller: Caller) {
    this.#operations = operations;
    this.#names = names;
    this.#caller = caller;
  }

  // Attributes

  async getattr(path: string): Promise<Uint32Array> {
    return this.#at(path, (node) => this.#stat(node));
  }

  async fgetattr(path: string, handle: number): Promise<Uint32Array> {
    const open = this.#handles.get(handle);
    return open === undefined ? this.getattr(path) : this.#stat(open.holding.node);
  }

  async statfs(): Promise<Uint32Array> {
    return statfsOf(await this.#operations.statFileSystem(this.#caller));
  }

  access(path: string, mask: number): Promise<void> {
    return this.#at(path, (node) => this.#operations.access(this.#caller, node, mask));
  }

  truncate(path: string, sizeBytes: number): Promise<void> {
    return this.#change(path, { sizeBytes });
  }

  async ftruncate(handle: number, sizeBytes: number): Promise<void> {
    await this.#operations.setAttributes(this.#caller, this.#node(handle), { sizeBytes });
  }

  chmod(path: string, mode: number): Promise<void> {
    return this.#change(path, { mode });
  }

  chown(path: string, uid: number, gid: number): Promise<void> {
    return this.#change(path, {
      ...(uid === UNCHANGED_ID ? {} : { uid }),
      ...(gid === UNCHANGED_ID ? {} : { gid }),
      killPrivileges: true,
    });
  }

  utimens(path: string, atime: Timespec, mtime: Timespec): Promise<void> {
    return this.#change(path, { atime, mtime });
  }

  getxattr(path: string, name: string, room: Buffer): Promise<number> {
    return this.#at(path, async (node) => fill(room, await this.#operations.getXattr(this.#caller, node, name)));
  }

  listxattr(path: string, room: Buffer): Promise<number> {
    return this.#at(path, async (node) => {
      const names = await this.#operations.listXattrs(this.#caller, node);
      return fill(room, Buffer.from(names.map((name) => `${name}\0`).join('')));
    });
  }

  setxattr(path: string, name: string, value: Buffer, flags: number): Promise<void> {
    // A copy: libfuse takes its buffer back.
    const kept = Buffer.from(value);
    return this.#at(path, (node) => this.#operations.setXattr(this.#caller, node, name, kept, flags));
  }

  removexattr(path: string, name: string): Promise<void> {
    return this.#at(path, (node) => this.#operations.removeXattr(this.#caller, node, name));
  }

  // Names

  readlink(path: string): Promise<string> {
    return this.#at(path, (node) => this.#operations.readLink(this.#caller, node));
  }

  /** The whole directory at once: libfuse 2 keeps it for the descriptor that reads it. */
  readdir(path: string): Promise<Listing> {
    return this.#at(path, async (node) => {
      const names: string[] = [];
      const stats: Uint32Array[] = [];
      await this.#operations.openDirectory(this.#caller, node);
      try {
        for (let offset = 0, before = -1; names.length > before; ) {
          before = names.length;
          await this.#operations.readDirectory(this.#caller, node, offset, false, (entry) => {
            names.push(entry.name);
            stats.push(statOfEntry(entry.ino, entry.typeMode));
            offset = entry.nextOffset;
            return true;
          });
        }
      } finally {
        await this.#operations.releaseDirectory(node);
      }
      return { names, stats };
    });
  }

  fsyncdir(path: string): Promise<void> {
    return this.#at(path, (node) => this.#operations.fsyncDirectory(this.#caller, node));
  }

  async mknod(path: string, mode: number): Promise<void> {
    const place = await this.#names.place(path);
    this.#names.learn(place, await this.#operations.makeNode(this.#caller, place.parent, place.name, mode));
  }

  async mkdir(path: string, mode: number): Promise<void> {
    const place = await this.#names.place(path);
    this.#names.learn(place, await this.#operations.makeDirectory(this.#caller, place.parent, place.name, mode));
  }

  async symlink(target: string, path: string): Promise<void> {
    const place = await this.#names.place(path);
    this.#names.learn(place, await this.#operations.makeSymlink(this.#caller, place.parent, place.name, target));
  }

  async unlink(path: string): Promise<void> {
    const place = await this.#names.place(path);
    await this.#operations.unlink(this.#caller, place.parent, place.name);
    this.#names.forget(place);
  }

  async rmdir(path: string): Promise<void> {
    const place = await this.#names.place(path);
    await this.#operations.removeDirectory(this.#caller, place.parent, place.name);
    this.#names.forget(place);
  }

  async rename(path: string, newPath: string): Promise<void> {
    const from = await this.#names.place(path);
    const to = await this.#names.place(newPath);
    if (isHiddenName(to.name) && this.#names.heldAt(from) !== undefined) {
      // libfuse's unlink of an open file. Operations can do that by themselves: only descriptors know the file from here on.
      await this.#operations.unlink(this.#caller, from.parent, from.name);
    } else {
      const flags = { noReplace: false };
      await this.#operations.rename(this.#caller, from.parent, from.name, to.parent, to.name, flags);
    }
    this.#names.moved(from, to);
  }

  // Files

  open(path: string, flags: number): Promise<number> {
    return this.#at(path, async (found) => {
      const holding = this.#names.hold(await this.#names.place(path), found);
      try {
        await this.#operations.open(this.#caller, holding.node, flags, false);
      } catch (error) {
        this.#names.letGo(holding);
        throw error;
      }
      return this.#opened({ holding, flags });
    });
  }

  async create(path: string, mode: number): Promise<number> {
    const place = await this.#names.place(path);
    const { parent, name } = place;
    const { entry } = await this.#operations.create(this.#caller, parent, name, mode, CREATE_FLAGS);
    this.#names.learn(place, entry);
    return this.#opened({ holding: this.#names.hold(place, entry.node), flags: CREATE_FLAGS });
  }

  async read(handle: number, buffer: Buffer, offset: number): Promise<number> {
    const reply = await this.#operations.read(this.#caller, this.#node(handle), offset, buffer.length);
    try {
      if (reply.kind === 'memory') return copyPieces(reply.pieces, buffer);
      return await readFully(reply.fd, buffer.subarray(0, reply.lengthBytes), reply.offset);
    } finally {
      reply.release();
    }
  }

  /** libfuse waits, and its buffer with it, until the operation has answered. */
  async write(handle: number, bytes: Buffer, offset: number): Promise<number> {
    const payload: WritePayload = {
      lengthBytes: bytes.length,
      toFile: (fd, at) => writeFully(fd, bytes, at),
      bytes: () => bytes,
    };
    // The kernel clears set-uid and set-gid by itself, with a chmod, for a driver that has not promised to.
    const options = { killPrivileges: false };
    return this.#operations.write(this.#caller, this.#node(handle), offset, payload, options);
  }

  async flush(handle: number): Promise<void> {
    await this.#operations.flush(this.#caller, this.#node(handle));
  }

  async fsync(handle: number): Promise<void> {
    await this.#operations.fsync(this.#caller, this.#node(handle));
  }

  async release(handle: number): Promise<void> {
    const open = this.#handles.get(handle);
    if (open === undefined) return;
    this.#handles.delete(handle);
    try {
      await this.#operations.release(open.holding.node, open.flags);
    } finally {
      this.#names.letGo(open.holding);
    }
  }

  /** As the VFS does: what fails because its node was replaced is tried once with the node that the path leads to now. */
  async #at<T>(path: string, use: (node: NodeId) => Answer<T>): Promise<T> {
    const node = await this.#names.resolve(path);
    try {
      return await use(node);
    } catch (error) {
      if (this.#operations.errnoOf(error) !== ERRNO.ESTALE) throw error;
      this.#names.forgetAll();
      const now = await this.#names.resolve(path);
      if (now === node) throw error;
      return use(now);
    }
  }

  async #change(path: string, change: AttributeChange): Promise<void> {
    await this.#at(path, (node) => this.#operations.setAttributes(this.#caller, node, change));
  }

  async #stat(node: NodeId): Promise<Uint32Array> {
    return statOf((await this.#operations.getAttributes(this.#caller, node)).attributes);
  }

  #node(handle: number): NodeId {
    const open = this.#handles.get(handle);
    if (open === undefined) throw systemError(ERRNO.EBADF, 'no such handle');
    return open.holding.node;
  }

  #opened(open: Handle): number {
    do this.#lastHandle = (this.#lastHandle % MAX_HANDLE) + 1;
    while (this.#handles.has(this.#lastHandle));
    this.#handles.set(this.#lastHandle, open);
    return this.#lastHandle;
  }
}

/** The kernel asks with no room for the size alone. */
function fill(room: Buffer, value: Uint8Array): number {
  if (room.length === 0) return value.length;
  if (value.length > room.length) throw systemError(ERRNO.ERANGE, 'getxattr');
  room.set(value);
  return value.length;
}

/** Resolves to the number of bytes: fewer at the end of the file. */
function copyPieces(pieces: readonly Uint8Array[], buffer: Buffer): number {
  let lengthBytes = 0;
  for (const piece of pieces) {
    buffer.set(piece, lengthBytes);
    lengthBytes += piece.length;
  }
  return lengthBytes;
}

async function readFully(fd: number, buffer: Buffer, offset: number): Promise<number> {
  let done = 0;
  while (done < buffer.length) {
    const { bytesRead } = await readFile(fd, buffer, done, buffer.length - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

async function writeFully(fd: number, bytes: Buffer, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await writeFile(fd, bytes, done, bytes.length - done, offset + done);
    done += bytesWritten;
  }
}
