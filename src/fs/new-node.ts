import type { NodeFields } from '../index/contract.ts';

/** A node of which nothing is known but its name, its kind and a time: whoever looks at it asks the bucket. */
export const NOTHING_KNOWN = {
  sizeBytes: 0,
  mode: undefined,
  uid: undefined,
  gid: undefined,
  ctime: undefined,
  atime: undefined,
  etag: undefined,
  lastModifiedMs: undefined,
  marker: undefined,
  content: undefined,
  md5: undefined,
  complete: false,
  extras: undefined,
  target: undefined,
  validatedAtMs: 0,
  listedAtMs: 0,
  dirty: false,
} as const satisfies Omit<NodeFields, 'parent' | 'name' | 'kind' | 'mtime'>;
