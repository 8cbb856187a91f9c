/** How the SDK's client is built: endpoint, region, credentials, transport and the headers that the SDK gets wrong. */
import { createHash } from 'node:crypto';
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { HttpTransport } from './s3-http.ts';

type Credentials = NonNullable<S3ClientConfig['credentials']>;

export interface S3ConnectionOptions {
  /** `https://fra1.digitaloceanspaces.com`, scheme optional; absent: AWS, by region. */
  readonly endpoint?: string;
  /** For the signature; absent: from the host name, else learnt from the store's first refusal. */
  readonly region?: string;
  /** `https://host/bucket/key` instead of `https://bucket.host/key`. */
  readonly pathStyle?: boolean;
  /** Absent: the SDK's chain (environment, files, web identity, instance metadata). `anonymous`: unsigned requests. */
  readonly credentials?: Credentials | 'anonymous';
  /** Connections kept at most; the limit of concurrent requests should not be higher. Default 32. */
  readonly maxConnections?: number;
  /** Default 10 s. */
  readonly connectTimeoutMs?: number;
  /** A request or body without progress for so long fails. Default 30 s. */
  readonly idleTimeoutMs?: number;
  /** Default true. */
  readonly verifyTls?: boolean;
  /** False: the certificate may be for another host. Default true. */
  readonly verifyHostname?: boolean;
  /** URL of an HTTP proxy. */
  readonly proxy?: string;
}

const DEFAULT_REGION = 'us-east-1';

const UNSIGNED = {
  credentials: { accessKeyId: '', secretAccessKey: '' },
  signer: { sign: async <T>(request: T) => request },
};

const nothing = () => {};
/** Failures are reported as errors; the SDK's own remarks would go to the console. */
const SILENT = { debug: nothing, info: nothing, warn: nothing, error: nothing };

export function createTransport(options: S3ConnectionOptions): HttpTransport {
  return new HttpTransport({
    maxConnections: options.maxConnections ?? 32,
    connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
    idleTimeoutMs: options.idleTimeoutMs ?? 30_000,
    verifyTls: options.verifyTls ?? true,
    verifyHostname: options.verifyHostname ?? true,
    ...(options.proxy === undefined ? {} : { proxy: options.proxy }),
  });
}

export function createClient(options: S3ConnectionOptions, region: string, transport: HttpTransport): S3Client {
  const endpoint = endpointUrl(options.endpoint);
  const { credentials } = options;
  const client = new S3Client({
    region,
    // AWS redirects from one region's host to another's, so that the host has to follow the region.
    ...(endpoint === undefined || isAws(endpoint.hostname) ? {} : { endpoint: endpoint.href }),
    ...(credentials === 'anonymous' ? UNSIGNED : credentials === undefined ? {} : { credentials }),
    logger: SILENT,
    forcePathStyle: options.pathStyle ?? false,
    requestHandler: transport,
    maxAttempts: 1,
    retryMode: 'standard',
    defaultsMode: 'standard',
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    expectContinueHeader: false,
    disableS3ExpressSessionAuth: true,
    useArnRegion: false,
  });
  for (const unused of ['recursionDetectionMiddleware', 'loggerMiddleware', 's3ExpressMiddleware']) {
    client.middlewareStack.remove(unused);
  }
  fixHeaders(client);
  return client;
}

/** The region to begin with. */
export function initialRegion(options: S3ConnectionOptions): string {
  const host = endpointUrl(options.endpoint)?.hostname;
  return options.region ?? (host === undefined ? undefined : regionOfHost(host)) ?? DEFAULT_REGION;
}

/** Providers whose host names carry the region that they want in the signature. */
const REGION_IN_HOST = [
  /(?:^|\.)s3[.-](?:dualstack\.|fips\.)?([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com(?:\.cn)?$/,
  /(?:^|\.)([a-z0-9-]+)\.(?:digitaloceanspaces|linodeobjects|vultrobjects)\.com$/,
  /(?:^|\.)sos-([a-z0-9-]+)\.exo\.io$/,
  /(?:^|\.)s3\.([a-z0-9-]+)\.[a-z0-9.-]+$/,
];

export function regionOfHost(hostname: string): string | undefined {
  if (isAws(hostname)) return REGION_IN_HOST[0]?.exec(hostname)?.[1];
  for (const pattern of REGION_IN_HOST) {
    const region = pattern.exec(hostname)?.[1];
    if (region !== undefined) return region;
  }
  return undefined;
}

/** Throws a `TypeError` for what is no URL. */
export function endpointUrl(endpoint: string | undefined): URL | undefined {
  if (endpoint === undefined) return undefined;
  return new URL(/^https?:\/\//i.test(endpoint) ? endpoint : `https://${endpoint}`);
}

function isAws(hostname: string): boolean {
  return /(?:^|\.)amazonaws\.com(?:\.cn)?$/.test(hostname);
}

function fixHeaders(client: S3Client): void {
  client.middlewareStack.add(
    (next, context) => (args) => {
      const request = args.request as { headers: Record<string, string>; body?: unknown };
      const input = args.input as { ContentMD5?: string; ExpiresString?: string };
      if (input.ContentMD5 !== undefined) {
        // Content-MD5 is signed and checked by the store: hashing the body a second time would protect nothing more.
        request.headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD';
      }
      // The SDK takes only dates, but `Expires: 0` is common and has to survive a copy.
      if (input.ExpiresString !== undefined) request.headers.expires = input.ExpiresString;
      if (context.commandName === 'DeleteObjectsCommand') sumWithMd5(request);
      return next(args);
    },
    { step: 'build', priority: 'low', name: 'tsfsHeaders' },
  );
}

/** Batch deletes need a checksum; Content-MD5 is the one that every store knows. */
function sumWithMd5(request: { headers: Record<string, string>; body?: unknown }): void {
  for (const name of Object.keys(request.headers)) {
    if (/^x-amz-(?:sdk-)?checksum-/i.test(name)) delete request.headers[name];
  }
  request.headers['content-md5'] = createHash('md5').update(String(request.body)).digest('base64');
}
