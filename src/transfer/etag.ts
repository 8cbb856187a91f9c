import { isDeepStrictEqual } from 'node:util';
import type { ObjectHead } from '../store/contract.ts';

/** What S3 gives to objects made by one PUT without KMS or customer keys. Multipart ETags carry `-N`. */
export function looksLikeMd5(etag: string): boolean {
  return /^[0-9a-f]{32}$/i.test(etag);
}

/** Content-MD5 is sent in base64. */
export function md5Base64(hex: string): string {
  return Buffer.from(hex, 'hex').toString('base64');
}

/**
 * Whether one object can be the copy of another, made without new metadata: same bytes as far as ETags tell, same metadata. A copy of
 * an object that was uploaded in parts may get another ETag (S3) or the same (Ceph RGW).
 */
export function isCopyOf(original: ObjectHead, copy: ObjectHead): boolean {
  const isSameContent = copy.etag === original.etag || !looksLikeMd5(original.etag);
  return isSameContent && copy.sizeBytes === original.sizeBytes && isDeepStrictEqual(copy.metadata, original.metadata);
}
