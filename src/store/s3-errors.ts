/** The one map from what the SDK, Node and stores report to `StoreError`. */
import { StoreError, type StoreErrorKind } from './contract.ts';

const KIND_OF_CODE = new Map<string, StoreErrorKind>(
  Object.entries({
    NotFound: ['NoSuchKey', 'NotFound', 'NoSuchUpload', 'NoSuchVersion'],
    NoSuchBucket: ['NoSuchBucket'],
    PreconditionFailed: ['PreconditionFailed'],
    NotModified: ['NotModified'],
    InvalidRange: ['InvalidRange'],
    AccessDenied: ['AccessDenied', 'AllAccessDisabled', 'AccountProblem', 'UserSuspended'],
    BadCredentials: [
      'InvalidAccessKeyId',
      'SignatureDoesNotMatch',
      'InvalidToken',
      'ExpiredToken',
      'InvalidSecurity',
      'Unauthorized',
      'CredentialsProviderError',
    ],
    ClockSkew: ['RequestTimeTooSkewed', 'RequestExpired', 'RequestInTheFuture'],
    QuotaExceeded: ['QuotaExceeded', 'StorageQuotaExceeded', 'InsufficientStorage', 'XMinioStorageFull', 'StorageFull'],
    Throttled: [
      'SlowDown',
      'Throttling',
      'ThrottlingException',
      'TooManyRequests',
      'TooManyRequestsException',
      'RequestLimitExceeded',
      'BandwidthLimitExceeded',
    ],
    // 409: another write of the same key is under way; the store asks to try again.
    Unavailable: ['InternalError', 'ServiceUnavailable', 'OperationAborted', 'ConditionalRequestConflict'],
    Timeout: ['RequestTimeout', 'ETIMEDOUT', 'ESOCKETTIMEDOUT'],
    Transport: [
      'IncompleteBody',
      'ECONNRESET',
      'ECONNREFUSED',
      'ECONNABORTED',
      'EPIPE',
      'ENOTFOUND',
      'EAI_AGAIN',
      'EHOSTUNREACH',
      'ENETUNREACH',
      'ENETDOWN',
      'EADDRNOTAVAIL',
      'EPROTO',
      'ERR_STREAM_PREMATURE_CLOSE',
    ],
    Corrupt: ['BadDigest', 'XAmzContentSHA256Mismatch', 'XAmzContentChecksumMismatch'],
    NotSupported: ['NotImplemented', 'MethodNotAllowed'],
  } satisfies Partial<Record<StoreErrorKind, string[]>>).flatMap(([kind, codes]) =>
    codes.map((code) => [code, kind as StoreErrorKind] as const),
  ),
);

const KIND_OF_STATUS = new Map<number, StoreErrorKind>([
  [304, 'NotModified'],
  [401, 'BadCredentials'],
  [403, 'AccessDenied'],
  [404, 'NotFound'],
  [405, 'NotSupported'],
  [408, 'Timeout'],
  [409, 'Unavailable'],
  [412, 'PreconditionFailed'],
  [416, 'InvalidRange'],
  [429, 'Throttled'],
  [501, 'NotSupported'],
  [504, 'Timeout'],
  [507, 'QuotaExceeded'],
]);

/** What the SDK's exceptions and Node's system errors carry, as far as it is read here. */
interface RawError {
  readonly name?: unknown;
  readonly code?: unknown;
  readonly Code?: unknown;
  readonly Region?: unknown;
  readonly message?: unknown;
  readonly $metadata?: { readonly httpStatusCode?: number };
  readonly $response?: { readonly headers?: Readonly<Record<string, string>> };
}

/**
 * @param request what was asked, for the message: `GET photos/1.jpg`
 */
export function toStoreError(error: unknown, request: string, signal?: AbortSignal): StoreError {
  if (signal?.aborted) return new StoreError('Aborted', `${request}: given up`);
  if (error instanceof StoreError) {
    return new StoreError(error.kind, `${request}: ${error.message}`, error);
  }
  const raw = (error ?? {}) as RawError;
  const status = raw.$metadata?.httpStatusCode;
  const code = codeOf(raw);
  const kind = kindOf(code, status);
  const retryAfterMs = retryAfter(raw.$response?.headers?.['retry-after']);
  // The SDK's own error is not kept as the cause: its fields hold parts of the signature.
  return new StoreError(kind, `${request}: ${describe(raw, code, status)}`, { status, code, retryAfterMs });
}

export function kindOf(code: string | undefined, status: number | undefined): StoreErrorKind {
  const known = code === undefined ? undefined : KIND_OF_CODE.get(code);
  if (known !== undefined) return known;
  if (code?.startsWith('HPE_')) return 'Transport'; // Node's HTTP parser: the answer is garbage.
  if (status === undefined) return 'InvalidRequest';
  const byStatus = KIND_OF_STATUS.get(status);
  if (byStatus !== undefined) return byStatus;
  if (status >= 500) return 'Unavailable';
  // A success whose content cannot be read: XML that was cut off, or somebody else's page.
  return status >= 200 && status < 300 ? 'Transport' : 'InvalidRequest';
}

/** A HEAD that is refused does not tell why. */
export function isForbidden(error: unknown): boolean {
  return (error as RawError | undefined)?.$metadata?.httpStatusCode === 403;
}

/** The region that the bucket is in, when the store says that the request was signed for another or went elsewhere. */
export function regionFromError(error: unknown): string | undefined {
  const raw = (error ?? {}) as RawError;
  const status = raw.$metadata?.httpStatusCode;
  if (status !== 301 && status !== 307 && status !== 400 && status !== 403) return undefined;
  const region = raw.$response?.headers?.['x-amz-bucket-region'] ?? raw.Region;
  return typeof region === 'string' && /^[a-z0-9-]{1,63}$/.test(region) ? region : undefined;
}

function codeOf(raw: RawError): string | undefined {
  for (const candidate of [raw.Code, raw.code, raw.name]) {
    // HEAD answers have no body, and the SDK then makes up a code from the status.
    if (typeof candidate === 'string' && !/^(?:Unknown|UnknownError|Error|\d+)$/.test(candidate)) return candidate;
  }
  return undefined;
}

function describe(raw: RawError, code: string | undefined, status: number | undefined): string {
  const firstLine = String(raw.message ?? '').split('\n', 1)[0] ?? '';
  const text = /^(?:UnknownError|Unknown)?$/.test(firstLine) ? '' : firstLine.slice(0, 500);
  const answer = status === undefined ? code : `${code ?? 'refused'} (HTTP ${status})`;
  return [answer, text].filter((part) => part !== undefined && part !== '').join(': ');
}

/** Seconds or an HTTP date; at most an hour is believed. */
function retryAfter(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), 3_600_000);
}
