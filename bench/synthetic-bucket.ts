/**
 * A bucket that is only told of: as many objects as wanted, in directories of one size, without a byte stored. For listings and lookups at
 * sizes that would take hours to upload. Answers LIST, HEAD and GET, and refuses everything else.
 */
import { createHash } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';

export interface SyntheticOptions {
  readonly bucket: string;
  readonly objects: number;
  readonly perDirectory: number;
}

export interface SyntheticBucket {
  readonly endpoint: string;
  stop(): Promise<void>;
}

const PAGE_ENTRIES = 1000;
const OBJECT_BYTES = 1024;
const MODIFIED = new Date('2024-05-01T00:00:00Z');
/** Names have so many digits, so that their order is that of their numbers. */
const DIGITS = 7;

export function directoryName(directory: number): string {
  return `d${String(directory).padStart(DIGITS, '0')}`;
}

export function fileName(file: number): string {
  return `f${String(file).padStart(DIGITS, '0')}.jpg`;
}

export async function startSyntheticBucket(options: SyntheticOptions): Promise<SyntheticBucket> {
  const server = http.createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    request.resume();
    answer(options, request, response);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', resolve);
  });
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function answer(options: SyntheticOptions, request: http.IncomingMessage, response: http.ServerResponse): void {
  const { pathname, searchParams } = new URL(request.url ?? '', 'http://localhost');
  const key = decodeURIComponent(pathname).slice(`/${options.bucket}/`.length);
  const isGet = request.method === 'GET';
  if (!isGet && request.method !== 'HEAD') {
    send(response, 403, errorXml('AccessDenied'));
  } else if (key === '') {
    const isListing = isGet && ['list-type', 'prefix', 'delimiter'].some((name) => searchParams.has(name));
    if (isListing) send(response, 200, listing(options, searchParams));
    else send(response, isGet ? 404 : 200, '');
  } else if (!exists(options, key)) {
    send(response, 404, isGet ? errorXml('NoSuchKey') : '');
  } else {
    response.writeHead(200, {
      'Content-Length': OBJECT_BYTES,
      'Content-Type': 'image/jpeg',
      'Last-Modified': MODIFIED.toUTCString(),
      ETag: `"${etagOf(key)}"`,
    });
    response.end(isGet ? Buffer.alloc(OBJECT_BYTES) : undefined);
  }
}

function send(response: http.ServerResponse, status: number, body: string): void {
  response.writeHead(status, { 'Content-Type': 'application/xml', 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}

/** `d0000001/f0000002.jpg` */
function exists({ objects, perDirectory }: SyntheticOptions, key: string): boolean {
  const match = /^d(\d+)\/f(\d+)\.jpg$/.exec(key);
  const [directory, file] = [Number(match?.[1]), Number(match?.[2])];
  return (
    key === `${directoryName(directory)}/${fileName(file)}` &&
    file < perDirectory &&
    directory * perDirectory + file < objects
  );
}

function listing(options: SyntheticOptions, query: URLSearchParams): string {
  const prefix = query.get('prefix') ?? '';
  const limit = Math.min(Number(query.get('max-keys') ?? PAGE_ENTRIES), PAGE_ENTRIES);
  const start = Number(
    query.get('continuation-token') ?? afterKey(query.get('start-after') ?? query.get('marker') ?? ''),
  );
  const [entries, count] = prefix === '' ? topLevel(options, start, limit) : directory(options, prefix, start, limit);
  const next = start + limit < count ? nextPage(prefix, start + limit) : '';
  return (
    `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>${options.bucket}</Name><Prefix>${prefix}</Prefix>` +
    `<Delimiter>/</Delimiter><MaxKeys>${limit}</MaxKeys><IsTruncated>${next !== ''}</IsTruncated>${next}${entries}</ListBucketResult>`
  );
}

/** For V2 and for V1. */
function nextPage(prefix: string, start: number): string {
  const last = prefix === '' ? `${directoryName(start - 1)}/` : `${prefix}${fileName(start - 1)}`;
  return `<NextContinuationToken>${start}</NextContinuationToken><NextMarker>${last}</NextMarker>`;
}

/** The last name that the client has, or does not want. */
function afterKey(key: string): number {
  const number = /(\d+)(?:\.jpg|\/)$/.exec(key)?.[1];
  return number === undefined ? 0 : Number(number) + 1;
}

function topLevel({ objects, perDirectory }: SyntheticOptions, start: number, limit: number): [string, number] {
  const directories = Math.ceil(objects / perDirectory);
  const entries = range(start, Math.min(start + limit, directories)).map(
    (number) => `<CommonPrefixes><Prefix>${directoryName(number)}/</Prefix></CommonPrefixes>`,
  );
  return [entries.join(''), directories];
}

function directory(options: SyntheticOptions, prefix: string, start: number, limit: number): [string, number] {
  const keys = range(0, options.perDirectory)
    .slice(start, start + limit)
    .map((file) => `${prefix}${fileName(file)}`)
    .filter((key) => exists(options, key));
  const entries = keys.map(
    (key) =>
      `<Contents><Key>${key}</Key><LastModified>${MODIFIED.toISOString()}</LastModified><ETag>&quot;${etagOf(key)}&quot;</ETag>` +
      `<Size>${OBJECT_BYTES}</Size><StorageClass>STANDARD</StorageClass></Contents>`,
  );
  return [entries.join(''), keys.length < limit ? start + keys.length : options.perDirectory];
}

function etagOf(key: string): string {
  return createHash('md5').update(key).digest('hex');
}

function range(start: number, end: number): number[] {
  return Array.from({ length: Math.max(0, end - start) }, (_, i) => start + i);
}

function errorXml(code: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code></Error>`;
}
