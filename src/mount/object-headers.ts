/** From `ahbe_conf` rules (HTTP header names) to what the object store is told. */
import type { ObjectAttributes, ObjectHeaders } from '../store/contract.ts';
import { type HeaderRule, headerMatcher } from './header-rules.ts';

const FIELD_OF_HEADER: Readonly<Record<string, keyof ObjectHeaders>> = {
  'content-type': 'contentType',
  'cache-control': 'cacheControl',
  'content-disposition': 'contentDisposition',
  'content-encoding': 'contentEncoding',
  'content-language': 'contentLanguage',
  expires: 'expires',
};

const METADATA_PREFIX = 'x-amz-meta-';

/** Takes the path below the mount point, without a leading slash. */
export function objectHeaders(rules: readonly HeaderRule[]): (path: string) => Partial<ObjectAttributes> {
  if (rules.length === 0) return () => ({});
  const match = headerMatcher(rules);
  return (path) => {
    const headers: { -readonly [K in keyof ObjectHeaders]: ObjectHeaders[K] } = {};
    const metadata: Record<string, string> = {};
    for (const [header, value] of Object.entries(match(path))) {
      const field = FIELD_OF_HEADER[header];
      if (field !== undefined) headers[field] = value;
      else if (header.startsWith(METADATA_PREFIX)) metadata[header.slice(METADATA_PREFIX.length)] = value;
    }
    return { ...headers, metadata };
  };
}
