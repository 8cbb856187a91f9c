/**
 * Object metadata ↔ attributes, in the conventions of s3fs (and those it reads: s3sync, Google, rclone). Metadata come from anybody who can
 * write to the bucket: what makes no sense is left out, and kept for writing back, but never an error.
 */
import { lookup } from 'mime-types';
import { type Timespec, timespecFromMs } from '../base/clock.ts';
import type { NodeExtras, NodeFields, NodeKind } from '../index/contract.ts';
import type { ObjectAttributes, ObjectHead, ObjectHeaders } from '../store/contract.ts';
import { FsError } from './errors.ts';
import { decodeXattrs, encodeXattrs } from './metadata-xattrs.ts';

/** What an object says about the node that it is. */
export type ObjectFields = Pick<NodeFields, 'kind' | 'mode' | 'uid' | 'gid' | 'mtime' | 'ctime' | 'atime' | 'extras'>;

/** What is written on an object: its name decides the Content-Type, unless it has one already. */
export type WritableFields = ObjectFields & Pick<NodeFields, 'name'>;

/** S3's limit for names and values of user metadata together, in UTF-8. */
export const MAX_METADATA_BYTES = 2048;

const DIRECTORY_CONTENT_TYPE = 'application/x-directory';
const DEFAULT_CONTENT_TYPE = 'application/octet-stream';

const S_IFMT = 0o170000;
const TYPE_BITS: Record<NodeKind, number> = { file: 0o100000, directory: 0o040000, symlink: 0o120000 };
/** Fifos, character devices, block devices, sockets. */
const SPECIAL_TYPES: ReadonlySet<number> = new Set([0o010000, 0o020000, 0o060000, 0o140000]);
const PERMISSION_BITS = 0o7777;

/** Year 9999. Beyond that programs and file systems disagree. */
const MAX_SECONDS = 253_402_300_799;

/** (uid_t) -1 means "no change" to chown(2). */
const MAX_ID = 2 ** 32 - 2;

const HEADER_NAMES = [
  'contentType',
  'cacheControl',
  'contentDisposition',
  'contentEncoding',
  'contentLanguage',
  'expires',
] as const satisfies readonly (keyof ObjectHeaders)[];

/** Takes values out of the user metadata. Those that cannot be understood stay: they are somebody else's. */
class MetadataReader {
  readonly rest: Map<string, string>;

  constructor(metadata: Readonly<Record<string, string>>) {
    this.rest = new Map(Object.entries(metadata));
  }

  /** The first of the names that can be understood decides. The others are older ways to say the same, and go with it. */
  take<T>(names: readonly string[], parse: (text: string, name: string) => T | undefined): T | undefined {
    let found: T | undefined;
    for (const name of names) {
      const text = this.rest.get(name);
      const value = text === undefined ? undefined : parse(text, name);
      if (value === undefined) continue;
      this.rest.delete(name);
      found ??= value;
    }
    return found;
  }
}

/** `isDirectory`: the key is a directory's marker. */
export function decodeAttributes(head: ObjectHead, isDirectory: boolean): ObjectFields {
  const reader = new MetadataReader(head.metadata);
  const mode = reader.take(['mode', 'permissions', 'goog-reserved-posix-mode'], parseMode);
  const kind = kindOf(mode, isDirectory);
  const uid = reader.take(['uid', 'owner', 'goog-reserved-posix-uid'], parseId);
  const gid = reader.take(['gid', 'group', 'goog-reserved-posix-gid'], parseId);
  const mtime = reader.take(['mtime', 'goog-reserved-file-mtime'], parseTime);
  const ctime = reader.take(['ctime'], parseTime);
  const atime = reader.take(['atime'], parseTime);
  const xattrs = reader.take(['xattr'], decodeXattrs) ?? {};
  const headers = Object.fromEntries(HEADER_NAMES.flatMap((name) => (head[name] ? [[name, head[name]]] : [])));
  return {
    kind,
    mode: mode === undefined || !isModeOf(kind, mode) ? undefined : mode & PERMISSION_BITS,
    uid,
    gid,
    mtime: mtime ?? timespecFromMs(head.lastModifiedMs),
    ctime,
    atime,
    extras: { headers, metadata: Object.fromEntries(reader.rest), xattrs },
  };
}

/** Throws FsError ENOSPC when the metadata are more than S3 stores: extended attributes are, as a rule, the reason. */
export function encodeAttributes(fields: WritableFields): ObjectAttributes {
  const metadata: Record<string, string> = { ...fields.extras?.metadata };
  const mode = modeToWrite(fields);
  if (mode !== undefined) metadata.mode = String(mode);
  if (fields.uid !== undefined) metadata.uid = String(fields.uid);
  if (fields.gid !== undefined) metadata.gid = String(fields.gid);
  metadata.mtime = formatTime(fields.mtime);
  if (fields.ctime !== undefined) metadata.ctime = formatTime(fields.ctime);
  if (fields.atime !== undefined) metadata.atime = formatTime(fields.atime);
  const xattrs = fields.extras?.xattrs ?? {};
  if (Object.keys(xattrs).length > 0) metadata.xattr = encodeXattrs(xattrs);
  checkSize(metadata);
  return { contentType: contentTypeOf(fields), ...headersOf(fields.extras), metadata };
}

/** By the last extension, or the one before it (`photo.jpg.bak`). */
export function contentTypeByName(name: string): string {
  const [, ...extensions] = name.replace(/^\.+/, '').split('.');
  for (const extension of extensions.slice(-2).reverse()) {
    const type = lookup(`x.${extension}`);
    if (type !== false) return type;
  }
  return DEFAULT_CONTENT_TYPE;
}

function contentTypeOf(fields: Pick<WritableFields, 'kind' | 'name'>): string {
  if (fields.kind === 'directory') return DIRECTORY_CONTENT_TYPE;
  return fields.kind === 'symlink' ? DEFAULT_CONTENT_TYPE : contentTypeByName(fields.name);
}

function headersOf(extras: NodeExtras | undefined): ObjectHeaders {
  const known = HEADER_NAMES.flatMap((name) => {
    const value = extras?.headers[name];
    return value === undefined ? [] : [[name, value]];
  });
  return Object.fromEntries(known);
}

/** Without its mode a symbolic link would be a file that holds a path. */
function modeToWrite(fields: Pick<ObjectFields, 'kind' | 'mode'>): number | undefined {
  const permissions = fields.mode ?? (fields.kind === 'symlink' ? 0o777 : undefined);
  return permissions === undefined ? undefined : TYPE_BITS[fields.kind] | (permissions & PERMISSION_BITS);
}

function checkSize(metadata: Readonly<Record<string, string>>): void {
  let sizeBytes = 0;
  for (const [name, value] of Object.entries(metadata)) sizeBytes += Buffer.byteLength(name) + Buffer.byteLength(value);
  if (sizeBytes > MAX_METADATA_BYTES) {
    throw new FsError('ENOSPC', `metadata of ${sizeBytes} bytes, an object has room for ${MAX_METADATA_BYTES}`);
  }
}

/** The key says whether it is a directory; only between file and symbolic link do the type bits decide. */
function kindOf(mode: number | undefined, isDirectory: boolean): NodeKind {
  if (isDirectory) return 'directory';
  return mode !== undefined && (mode & S_IFMT) === TYPE_BITS.symlink ? 'symlink' : 'file';
}

/** Permissions meant for another kind (a directory's on a file) are not used. s3sync writes no type bits; `0` says nothing. */
function isModeOf(kind: NodeKind, mode: number): boolean {
  const type = mode & S_IFMT;
  return type === TYPE_BITS[kind] || (type === 0 && mode !== 0);
}

/**
 * s3fs writes decimal, Google and rclone octal. With type bits the two can be told apart: no octal form of a regular file or link is the
 * decimal form of something. (That of a directory with set-id or sticky bits looks like a link's, and is then not used on `dir/`.)
 */
function parseMode(text: string, name: string): number | undefined {
  if (!/^[0-9]{1,8}$/.test(text)) return undefined;
  const decimal = Number.parseInt(text, 10);
  const octal = /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : undefined;
  const isOctalFirst = name === 'goog-reserved-posix-mode' || (text.startsWith('0') && text !== '0');
  if (!isOctalFirst && hasKnownType(decimal)) return decimal;
  // Of s3fs for a fifo, a socket or a device, or of s3sync with set-id bits: nobody can tell, and neither does any good here.
  if (!isOctalFirst && SPECIAL_TYPES.has(decimal & S_IFMT) && decimal <= 0o177777) return undefined;
  return octal !== undefined && hasKnownType(octal) ? octal : undefined;
}

function hasKnownType(mode: number): boolean {
  const type = mode & S_IFMT;
  return mode <= 0o177777 && (type === 0 || Object.values(TYPE_BITS).includes(type));
}

function parseId(text: string): number | undefined {
  if (!/^[0-9]{1,10}$/.test(text)) return undefined;
  const id = Number.parseInt(text, 10);
  return id <= MAX_ID ? id : undefined;
}

/**
 * Seconds with a decimal fraction of any length, as rclone writes them. s3fs reads and writes the fraction as a number of nanoseconds; with
 * nine digits, which is how it is written here, that is the same.
 */
function parseTime(text: string): Timespec | undefined {
  const match = /^(-?)([0-9]{1,12})(?:\.([0-9]{0,30}))?$/.exec(text);
  if (match === null) return undefined;
  const [, sign, whole = '', fraction = ''] = match;
  const sec = Number.parseInt(whole, 10);
  const nsec = Number.parseInt(fraction.slice(0, 9).padEnd(9, '0'), 10);
  if (sec > MAX_SECONDS) return undefined;
  if (sign === '') return { sec, nsec };
  return nsec === 0 ? { sec: 0 - sec, nsec } : { sec: -sec - 1, nsec: 1e9 - nsec };
}

function formatTime({ sec, nsec }: Timespec): string {
  if (nsec === 0) return String(sec);
  const [sign, whole, fraction] = sec < 0 ? ['-', -sec - 1, 1e9 - nsec] : ['', sec, nsec];
  return `${sign}${whole}.${String(fraction).padStart(9, '0')}`;
}
