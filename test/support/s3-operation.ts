/** What an S3 request does, told from its outside. */
import type { IncomingMessage } from 'node:http';

export type S3Operation =
  | 'HEAD'
  | 'GET'
  | 'PUT'
  | 'COPY'
  | 'DELETE'
  | 'LIST'
  | 'DELETE_BATCH'
  | 'CREATE_UPLOAD'
  | 'PUT_PART'
  | 'COPY_PART'
  | 'COMPLETE_UPLOAD'
  | 'ABORT_UPLOAD'
  /** Requests about the bucket itself. */
  | 'BUCKET';

export interface S3Request {
  readonly operation: S3Operation;
  readonly bucket: string;
  /** Of the object; the prefix, for a LIST; empty where there is none. */
  readonly key: string;
}

export function parseS3Request(request: IncomingMessage): S3Request {
  const [path = '/', search = ''] = splitOnce(request.url ?? '/', '?');
  const query = new URLSearchParams(search);
  const host = splitOnce(request.headers.host ?? '', ':')[0] ?? '';
  const isVirtualHost = host.endsWith('.localhost');
  const [first = '', rest = ''] = splitOnce(path.slice(1), '/');
  const bucket = isVirtualHost ? host.slice(0, -'.localhost'.length) : first;
  const key = decode(isVirtualHost ? path.slice(1) : rest);
  const isCopy = request.headers['x-amz-copy-source'] !== undefined;
  const operation = operationOf(request.method ?? 'GET', key !== '', query, isCopy);
  return { operation, bucket, key: operation === 'LIST' ? (query.get('prefix') ?? '') : key };
}

function operationOf(method: string, hasKey: boolean, query: URLSearchParams, isCopy: boolean): S3Operation {
  if (!hasKey) {
    if (method === 'POST' && query.has('delete')) return 'DELETE_BATCH';
    const subresources = ['location', 'uploads', 'acl', 'versioning', 'policy', 'lifecycle', 'cors'];
    return method === 'GET' && !subresources.some((name) => query.has(name)) ? 'LIST' : 'BUCKET';
  }
  const isUpload = query.has('uploadId');
  if (method === 'POST') return isUpload ? 'COMPLETE_UPLOAD' : 'CREATE_UPLOAD';
  if (method === 'DELETE') return isUpload ? 'ABORT_UPLOAD' : 'DELETE';
  if (method === 'PUT' && isUpload) return isCopy ? 'COPY_PART' : 'PUT_PART';
  if (method === 'PUT') return isCopy ? 'COPY' : 'PUT';
  return method === 'HEAD' ? 'HEAD' : 'GET';
}

function splitOnce(text: string, separator: string): [string, string?] {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + separator.length)];
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
