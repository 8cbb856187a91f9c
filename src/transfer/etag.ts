import { createHash } from 'node:crypto';
import type { PartResult } from '../store/contract.ts';

/** What S3 gives to objects made by one PUT without KMS or customer keys. Multipart ETags carry `-N`. */
export function looksLikeMd5(etag: string): boolean {
  return /^[0-9a-f]{32}$/i.test(etag);
}

/** The ETag that S3 computes for a multipart object; undefined when the parts' ETags are no MD5s. */
export function multipartEtag(parts: readonly PartResult[]): string | undefined {
  if (!parts.every((part) => looksLikeMd5(part.etag))) return undefined;
  const hash = createHash('md5');
  for (const part of parts) hash.update(Buffer.from(part.etag, 'hex'));
  return `${hash.digest('hex')}-${parts.length}`;
}

export function md5Hex(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex');
}

/** Content-MD5 is sent in base64. */
export function md5Base64(hex: string): string {
  return Buffer.from(hex, 'hex').toString('base64');
}
