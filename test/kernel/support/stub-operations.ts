/** Operations that answer at once with something valid; tests replace what they are about. */
import { constants } from 'node:os';
import type { NodeId } from '../../../src/base/ids.ts';
import type { AttributesReply, Entry, Operations } from '../../../src/kernel/contract.ts';
import { ToyError } from './toy-fs.ts';

const time = { sec: 1, nsec: 2 };

export const reply: AttributesReply = {
  attributes: {
    ino: 20n,
    mode: 0o100644,
    nlink: 1,
    uid: 0,
    gid: 0,
    sizeBytes: 5,
    blocks: 1,
    atime: time,
    mtime: time,
    ctime: time,
  },
  ttlMs: 1000,
};

export const entry: Entry = { ...reply, node: 20 as NodeId, entryTtlMs: 1000 };

const nothing = () => undefined;

export function stubOperations(replaced: Partial<Operations> = {}): Operations {
  return {
    lookup: () => entry,
    forget: nothing,
    getAttributes: () => reply,
    setAttributes: () => reply,
    readLink: () => 'target',
    makeSymlink: () => entry,
    makeNode: () => entry,
    makeDirectory: () => entry,
    unlink: nothing,
    removeDirectory: nothing,
    rename: nothing,
    open: () => ({ keepCache: true }),
    create: () => ({ entry, open: { keepCache: false } }),
    read: () => ({ kind: 'memory', pieces: [Buffer.from('hello')], release: nothing }),
    write: (_caller, _node, _offset, payload) => payload.lengthBytes,
    flush: nothing,
    fsync: nothing,
    release: nothing,
    openDirectory: () => ({ cache: true, keepCache: true }),
    readDirectory: nothing,
    releaseDirectory: nothing,
    fsyncDirectory: nothing,
    statFileSystem: () => ({ blockSizeBytes: 1, blocks: 2, blocksFree: 1, files: 2, filesFree: 1, maxNameBytes: 255 }),
    access: nothing,
    getXattr: () => Buffer.from('value'),
    listXattrs: () => ['user.a', 'user.b'],
    setXattr: nothing,
    removeXattr: nothing,
    allocate: nothing,
    seek: () => 3,
    copyRange: (_caller, _source, _from, _target, _to, lengthBytes) => lengthBytes,
    destroy: nothing,
    errnoOf: (error) => (error instanceof ToyError ? error.errno : constants.errno.EIO),
    ...replaced,
  };
}
