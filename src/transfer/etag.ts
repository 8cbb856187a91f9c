/** What S3 gives to objects made by one PUT without KMS or customer keys. Multipart ETags carry `-N`. */
export function looksLikeMd5(etag: string): boolean {
  return /^[0-9a-f]{32}$/i.test(etag);
}

/** Content-MD5 is sent in base64. */
export function md5Base64(hex: string): string {
  return Buffer.from(hex, 'hex').toString('base64');
}
