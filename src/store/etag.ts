import { createHash } from 'node:crypto';

/**
 * The ETag of a multipart object: the MD5 of its parts' MD5s and their number. Undefined when the parts' ETags are no MD5s
 * (encrypted with KMS or a customer's key).
 */
export function multipartEtag(partEtags: readonly string[]): string | undefined {
  if (!partEtags.every((etag) => /^[0-9a-f]{32}$/i.test(etag))) return undefined;
  const digest = createHash('md5')
    .update(Buffer.from(partEtags.join(''), 'hex'))
    .digest('hex');
  return `${digest}-${partEtags.length}`;
}
