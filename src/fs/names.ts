/** Names ↔ keys: which names a file may have, what a page of a listing says about a directory, and inode numbers. */
import { hash } from 'node:crypto';
import type { ListedName } from '../index/contract.ts';
import type { ListedObject, ListPage } from '../store/contract.ts';
import { FsError } from './errors.ts';

/** NAME_MAX of Linux. */
export const MAX_NAME_BYTES = 255;

/** S3's limit, in UTF-8. */
export const MAX_KEY_BYTES = 1024;

/** Hadoop's marker of the directory `dir` is the empty object `dir_$folder$` beside it. */
export const FOLDER_SUFFIX = '_$folder$';

/** What a page of a listing with delimiter tells of one directory. */
export interface ParsedPage {
  readonly names: readonly ListedName[];
  /** The object that stands for the directory itself. */
  readonly marker: ListedObject | undefined;
  /** Number of keys that are no file names. */
  readonly skipped: number;
  /** Number of files that a directory of the same name hides. */
  readonly shadowed: number;
  /** One of the keys that are skipped or shadowed. */
  readonly sample: string | undefined;
}

/** Whether a component can be a file name. A string that is not well-formed would change on its way to bytes and back. */
export function isValidName(name: string): boolean {
  if (name === '' || name === '.' || name === '..') return false;
  if (name.includes('/') || name.includes('\0') || !name.isWellFormed()) return false;
  return Buffer.byteLength(name) <= MAX_NAME_BYTES;
}

/** Whether a new file may have this name and key. Throws FsError: ENAMETOOLONG, EINVAL. */
export function checkKey(name: string, key: string): void {
  if (Buffer.byteLength(name) > MAX_NAME_BYTES || Buffer.byteLength(key) > MAX_KEY_BYTES) {
    throw new FsError('ENAMETOOLONG');
  }
  if (!isValidName(name)) throw new FsError('EINVAL');
}

/** `prefix` is '' or ends with '/'. */
export function parseListing(prefix: string, page: ListPage): ParsedPage {
  const directories = new Map<string, Extract<ListedName, { kind: 'directory' }>>();
  const files: ListedObject[] = [];
  let marker: ListedObject | undefined;
  let skipped = 0;
  let sample: string | undefined;
  const skip = (key: string) => {
    skipped += 1;
    sample ??= key;
  };
  for (const below of page.prefixes) {
    const name = directoryName(prefix, below);
    if (name === undefined) skip(below);
    else directories.set(name, { kind: 'directory', name });
  }
  for (const object of page.objects) {
    const name = object.key.slice(prefix.length);
    if (!object.key.startsWith(prefix)) skip(object.key);
    else if (name === '') marker = object;
    else if (!isValidName(name) || !Number.isSafeInteger(object.sizeBytes) || object.sizeBytes < 0) skip(object.key);
    else if (isFolderMarker(name, object)) {
      const folder = name.slice(0, -FOLDER_SUFFIX.length);
      directories.set(folder, { kind: 'directory', name: folder, marker: FOLDER_SUFFIX });
    } else files.push(object);
  }
  const names = files.map((object) => toFile(prefix, object)).filter(({ name }) => !directories.has(name));
  const shadowed = files.length - names.length;
  if (shadowed > 0) sample ??= files.find(({ key }) => directories.has(key.slice(prefix.length)))?.key;
  return { names: [...directories.values(), ...names], marker, skipped, shadowed, sample };
}

function directoryName(prefix: string, below: string): string | undefined {
  if (!below.startsWith(prefix) || !below.endsWith('/')) return undefined;
  const name = below.slice(prefix.length, -1);
  return isValidName(name) ? name : undefined;
}

function isFolderMarker(name: string, object: ListedObject): boolean {
  return object.sizeBytes === 0 && name.endsWith(FOLDER_SUFFIX) && isValidName(name.slice(0, -FOLDER_SUFFIX.length));
}

function toFile(prefix: string, object: ListedObject): Extract<ListedName, { kind: 'file' }> {
  return {
    kind: 'file',
    name: object.key.slice(prefix.length),
    sizeBytes: object.sizeBytes,
    etag: object.etag,
    lastModifiedMs: Number.isSafeInteger(object.lastModifiedMs) ? object.lastModifiedMs : 0,
  };
}

/**
 * `st_ino`: the same on every server and after every restart. 63 bits, since some programs hold it signed; never 0, which means "none",
 * nor 1, the root.
 */
export function inodeNumber(bucketIdentity: string, key: string): bigint {
  const digest = hash('sha1', `${bucketIdentity}\0${key}`, 'buffer');
  const number = digest.readBigUInt64LE() & 0x7fff_ffff_ffff_ffffn;
  return number > 1n ? number : number + 2n;
}
