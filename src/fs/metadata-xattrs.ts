/** Extended attributes in one metadata value, as s3fs keeps them: URL-encoded JSON, name → base64. */

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** XATTR_NAME_MAX of Linux. */
const MAX_NAME_BYTES = 255;

/** undefined when it is not what it should be. Entries that cannot be attributes are left out. */
export function decodeXattrs(text: string): Record<string, string> | undefined {
  const value = parse(text);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  return Object.fromEntries(Object.entries(value).filter(isXattr));
}

export function encodeXattrs(xattrs: Readonly<Record<string, string>>): string {
  return encodeURIComponent(JSON.stringify(xattrs));
}

function parse(text: string): unknown {
  try {
    return JSON.parse(decodeURIComponent(text));
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof URIError) return undefined;
    throw error;
  }
}

function isXattr(entry: [string, unknown]): entry is [string, string] {
  const [name, value] = entry;
  if (name === '' || name.includes('\0') || Buffer.byteLength(name) > MAX_NAME_BYTES) return false;
  return typeof value === 'string' && BASE64.test(value);
}
