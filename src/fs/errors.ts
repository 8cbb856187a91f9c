/** The one map from errors to errno: what the caller of a system call sees. */
import { constants } from 'node:os';
import { isStoreError, type StoreErrorKind } from '../store/contract.ts';

const errnoNumbers: Record<string, number> = constants.errno;

export type ErrnoName = keyof typeof constants.errno;

/** What the file system itself refuses. */
export class FsError extends Error {
  readonly code: ErrnoName;
  constructor(code: ErrnoName, message: string = code) {
    super(message);
    this.name = 'FsError';
    this.code = code;
  }
}

const STORE_ERRNO: Record<StoreErrorKind, ErrnoName> = {
  NotFound: 'ENOENT',
  NoSuchBucket: 'EIO',
  // Only reads and copies that are pinned to a version can meet this: the version is gone.
  PreconditionFailed: 'ESTALE',
  NotModified: 'EIO',
  InvalidRange: 'ESTALE',
  AccessDenied: 'EACCES',
  BadCredentials: 'EACCES',
  ClockSkew: 'EACCES',
  QuotaExceeded: 'EDQUOT',
  Throttled: 'EAGAIN',
  Unavailable: 'EIO',
  Timeout: 'ETIMEDOUT',
  Transport: 'EIO',
  Away: 'EIO',
  Corrupt: 'EIO',
  Aborted: 'EINTR',
  NotSupported: 'EOPNOTSUPP',
  InvalidRequest: 'EINVAL',
};

/** The store did not answer, or only that it cannot now. */
export function isSilence(error: unknown): boolean {
  return isStoreError(error, 'Throttled', 'Unavailable', 'Timeout', 'Transport', 'Away');
}

/** Store errors that say nothing about the object, only that the store cannot be asked now. */
export function isOutage(error: unknown): boolean {
  return isSilence(error) || isStoreError(error, 'ClockSkew', 'BadCredentials', 'AccessDenied', 'NoSuchBucket');
}

/** The store will not do it, however often it is asked. */
export function isRefusal(error: unknown): boolean {
  return isStoreError(error, 'AccessDenied', 'InvalidRequest', 'NotSupported');
}

/** The answer was lost: what was asked for may have been done. */
export function isUncertain(error: unknown): boolean {
  return isStoreError(error, 'Unavailable', 'Timeout', 'Transport', 'Aborted');
}

export function errnoOf(error: unknown): number {
  return errnoNumbers[errnoNameOf(error)] ?? constants.errno.EIO;
}

function errnoNameOf(error: unknown): ErrnoName {
  if (error instanceof FsError) return error.code;
  if (isStoreError(error)) return STORE_ERRNO[error.kind];
  const code = (error as { code?: unknown } | undefined)?.code;
  // The disk of the index is full.
  if (code === 'SQLITE_FULL') return 'ENOSPC';
  // System errors of the local disk (staging): ENOSPC, EDQUOT, EFBIG, EROFS … mean what they say.
  if (typeof code === 'string' && code in errnoNumbers) return code as ErrnoName;
  return 'EIO';
}
