/** Headers of objects ↔ attributes. What comes from the bucket may be anything. */
import type { ObjectAttributes, ObjectHead, ObjectHeaders } from './contract.ts';
import { StoreError } from './contract.ts';

/** The fields that HEAD and GET answers share. */
export interface RawHead {
  readonly ETag?: string | undefined;
  readonly LastModified?: Date | undefined;
  readonly ContentType?: string | undefined;
  readonly CacheControl?: string | undefined;
  readonly ContentDisposition?: string | undefined;
  readonly ContentEncoding?: string | undefined;
  readonly ContentLanguage?: string | undefined;
  readonly ExpiresString?: string | undefined;
  readonly Metadata?: Record<string, string> | undefined;
}

/** Throws a `Transport` error when the answer lacks what every object has. */
export function toHead(raw: RawHead, sizeBytes: number | undefined): ObjectHead {
  const etag = toEtag(raw.ETag);
  if (etag === undefined) throw new StoreError('Transport', 'the answer has no ETag');
  if (!isSize(sizeBytes)) throw new StoreError('Transport', 'the answer has no valid size');
  return {
    etag,
    sizeBytes,
    lastModifiedMs: toMs(raw.LastModified) ?? 0,
    ...toHeaders(raw),
    metadata: Object.fromEntries(
      Object.entries(raw.Metadata ?? {}).map(([name, value]) => [name.toLowerCase(), decodeMetadata(value)]),
    ),
  };
}

function toHeaders(raw: RawHead): ObjectHeaders {
  const headers = {
    contentType: raw.ContentType,
    cacheControl: raw.CacheControl,
    contentDisposition: raw.ContentDisposition,
    contentEncoding: raw.ContentEncoding,
    contentLanguage: raw.ContentLanguage,
    expires: raw.ExpiresString,
  };
  return Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined));
}

/** The SDK's input fields for a write. Fields that are not set are left out. */
export function fromAttributes(attributes: ObjectAttributes) {
  const fields = {
    ContentType: attributes.contentType,
    CacheControl: attributes.cacheControl,
    ContentDisposition: attributes.contentDisposition,
    ContentEncoding: attributes.contentEncoding,
    ContentLanguage: attributes.contentLanguage,
    ExpiresString: attributes.expires,
  };
  const present = Object.entries(fields).filter((field): field is [string, string] => field[1] !== undefined);
  return {
    ...Object.fromEntries(present.map(([name, value]) => [name, escapeUnprintable(value)])),
    Metadata: Object.fromEntries(
      Object.entries(attributes.metadata).map(([name, value]) => [name.toLowerCase(), encodeMetadata(value)]),
    ),
  };
}

/** Unquoted; undefined when there is none. */
export function toEtag(raw: string | undefined): string | undefined {
  const etag = raw?.trim().replace(/^(?:W\/)?"(.*)"$/, '$1');
  return etag === '' ? undefined : etag;
}

/** Whole seconds: HEAD has no more, and a LIST or a copy of the same version must tell the same time. */
export function toMs(date: Date | undefined): number | undefined {
  const ms = date?.getTime();
  return ms === undefined || Number.isNaN(ms) ? undefined : Math.floor(ms / 1000) * 1000;
}

export function isSize(size: number | undefined): size is number {
  return size !== undefined && Number.isSafeInteger(size) && size >= 0;
}

/**
 * Header values are printable ASCII without spaces at their ends. Others are percent-encoded (UTF-8), and so is a value that
 * would be taken for an encoded one: every string comes back as it was, and values that others encoded differently (s3fs
 * encodes all of its xattr value) stay verbatim.
 */
export function encodeMetadata(value: string): string {
  const isPlain = !UNPRINTABLE.test(value) && decodeMetadata(value) === value;
  return isPlain ? value : escapeUnprintable(value.replaceAll('%', '%25'));
}

export function decodeMetadata(raw: string): string {
  const value = fromLatin1(raw);
  if (!value.includes('%')) return value;
  try {
    const decoded = decodeURIComponent(value);
    return encodeMetadata(decoded) === value ? decoded : value;
  } catch {
    return value; // Not percent-encoded UTF-8: it means itself.
  }
}

const UNPRINTABLE = /[^\x20-\x7e]|^ | $/;

function escapeUnprintable(value: string): string {
  if (!UNPRINTABLE.test(value)) return value;
  return value.toWellFormed().replace(/[^\x20-\x7e]+|^ +| +$/g, (part) => encodeURIComponent(part));
}

/** Node reads headers as Latin-1, but what other tools put there unencoded is UTF-8. */
function fromLatin1(raw: string): string {
  if (!/[\x80-\xff]/.test(raw)) return raw;
  const bytes = Buffer.from(raw, 'latin1');
  const text = bytes.toString('utf8');
  return Buffer.from(text, 'utf8').equals(bytes) ? text : raw;
}
