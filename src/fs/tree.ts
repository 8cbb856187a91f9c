/** From nodes to keys, and from rows to what the kernel sees. */
import { LRUCache } from 'lru-cache';
import { timespecFromMs } from '../base/clock.ts';
import { type NodeId, ROOT_NODE_ID } from '../base/ids.ts';
import type { NodeKind, NodeRow } from '../index/contract.ts';
import type { Attributes } from '../kernel/contract.ts';
import type { ObjectAttributes } from '../store/contract.ts';
import type { FsContext } from './context.ts';
import { FsError } from './errors.ts';
import { encodeAttributes, type WritableFields } from './metadata.ts';
import { checkKey, inodeNumber } from './names.ts';

export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;

const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_IXGRP = 0o010;

const TYPE_MODE: Record<NodeKind, number> = { file: S_IFREG, directory: S_IFDIR, symlink: S_IFLNK };

/** What `ls -l` shows for a directory, as on ext4. */
const DIRECTORY_SIZE_BYTES = 4096;

/** Deeper than any key of 1024 bytes can be: a longer chain is a damaged index. */
const MAX_DEPTH = 1024;

const MAX_PREFIXES = 20_000;

export function typeModeOf(kind: NodeKind): number {
  return TYPE_MODE[kind];
}

export class Tree {
  readonly #context: FsContext;
  /** Directory → its key prefix. Cleared whenever a directory is moved: rare, and cheap to fill again. */
  readonly #prefixes = new LRUCache<NodeId, string>({ max: MAX_PREFIXES });

  constructor(context: FsContext) {
    this.#context = context;
  }

  /** The row of a node that the kernel names. ESTALE when it is gone: the kernel then walks the path again. */
  row(id: NodeId): NodeRow {
    const row = this.#context.index.nodes.get(id);
    if (row === undefined) throw new FsError('ESTALE');
    return row;
  }

  directory(id: NodeId): NodeRow {
    const row = this.row(id);
    if (row.kind !== 'directory') throw new FsError('ENOTDIR');
    return row;
  }

  /** Key prefix of everything in the directory: '' or ends with '/'. */
  prefixOf(id: NodeId): string {
    if (id === ROOT_NODE_ID) return this.#context.options.rootPrefix;
    const known = this.#prefixes.get(id);
    if (known !== undefined) return known;
    const names: string[] = [];
    let position = id;
    while (position !== ROOT_NODE_ID) {
      const row = this.row(position);
      if (row.parent === undefined || names.length > MAX_DEPTH) throw new FsError('ESTALE');
      names.push(row.name);
      position = row.parent;
    }
    const path = names.reverse().join('/');
    const prefix = `${this.#context.options.rootPrefix}${path}/`;
    this.#prefixes.set(id, prefix);
    return prefix;
  }

  /** Key of a file, or of a directory's marker. A detached node has none: ESTALE. */
  keyOf(row: Pick<NodeRow, 'id' | 'parent' | 'name' | 'kind' | 'marker'>): string {
    if (row.id === ROOT_NODE_ID) return this.#context.options.rootPrefix;
    if (row.parent === undefined) throw new FsError('ESTALE');
    const key = this.prefixOf(row.parent) + row.name;
    return row.kind === 'directory' ? directoryKey(key, row.marker) : key;
  }

  /** The key that a new name would have; ENAMETOOLONG, EINVAL when it can have none. */
  newKey(parent: NodeId, name: string, kind: NodeKind): string {
    const key = this.prefixOf(parent) + name + (kind === 'directory' ? '/' : '');
    checkKey(name, key);
    return key;
  }

  forgetPrefixes(): void {
    this.#prefixes.clear();
  }

  inodeOf(row: Pick<NodeRow, 'id' | 'parent' | 'name'>): bigint {
    if (row.id === ROOT_NODE_ID) return 1n;
    const identity = this.#context.options.bucketIdentity;
    // A detached node has no key; its id is unique on this host, which is all that fstat of an unlinked file needs.
    if (row.parent === undefined) return inodeNumber(identity, `\0${row.id}`);
    return inodeNumber(identity, this.prefixOf(row.parent) + row.name);
  }

  permissionsOf(row: Pick<NodeRow, 'id' | 'kind' | 'mode'>): number {
    if (row.mode !== undefined) return row.mode;
    const { defaults } = this.#context.options;
    if (row.id === ROOT_NODE_ID) return defaults.rootMode;
    if (row.kind === 'symlink') return 0o777;
    return row.kind === 'directory' ? defaults.directoryMode : defaults.fileMode;
  }

  attributesOf(row: NodeRow, live?: { readonly sizeBytes: number; readonly mtime: NodeRow['mtime'] }): Attributes {
    const { defaults } = this.#context.options;
    const isDirectory = row.kind === 'directory';
    const sizeBytes = isDirectory ? DIRECTORY_SIZE_BYTES : (live?.sizeBytes ?? row.sizeBytes);
    const mtime = live?.mtime ?? row.mtime;
    const ctime = row.ctime ?? mtime;
    return {
      ino: this.inodeOf(row),
      mode: typeModeOf(row.kind) | this.permissionsOf(row),
      nlink: row.parent === undefined && row.id !== ROOT_NODE_ID ? 0 : 1,
      uid: row.uid ?? defaults.uid,
      gid: row.gid ?? defaults.gid,
      sizeBytes,
      blocks: Math.ceil(sizeBytes / 512),
      atime: row.atime ?? mtime,
      mtime,
      ctime: isLater(mtime, ctime) && live !== undefined ? mtime : ctime,
    };
  }

  /** What is written on the object of that key: attributes in metadata, headers by name, and the headers that were configured. */
  objectAttributes(fields: WritableFields, key: string): ObjectAttributes {
    const { headersFor, rootPrefix } = this.#context.options;
    const configured = headersFor(key.slice(rootPrefix.length));
    const attributes = encodeAttributes(fields);
    return { ...attributes, ...configured, metadata: { ...attributes.metadata, ...configured.metadata } };
  }

  now(): NodeRow['mtime'] {
    return timespecFromMs(this.#context.clock.nowMs());
  }
}

/**
 * What a write, a truncation or a change of owner leaves of a file's mode (Linux: should_remove_suid). Set-gid without group execution is not a
 * privilege; directories keep theirs.
 */
export function withoutPrivileges(mode: number, kind: NodeKind): number {
  if (kind !== 'file') return mode;
  const kept = mode & ~S_ISUID;
  return (mode & S_IXGRP) === 0 ? kept : kept & ~S_ISGID;
}

function directoryKey(key: string, marker: string | undefined): string {
  return marker === undefined || marker === '' ? `${key}/` : `${key}${marker}`;
}

export function isLater(a: NodeRow['mtime'], b: NodeRow['mtime']): boolean {
  return a.sec > b.sec || (a.sec === b.sec && a.nsec > b.nsec);
}
