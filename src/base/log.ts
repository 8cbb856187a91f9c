import { rename, stat } from 'node:fs/promises';
import { type DestinationStream, type Logger as PinoLogger, pino, stdTimeFunctions } from 'pino';

/**
 * The logger that every layer is given. Structured: `log.warn({ key, error }, 'upload failed')`.
 * Secrets are never passed to it; as a second line of defence well-known field names are redacted.
 */
export type Logger = PinoLogger;

export interface LogOptions {
  readonly level: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent';
  /** Absolute path of a log file (0600), or undefined for stderr. */
  readonly file?: string | undefined;
  /** A file that grows past this is moved to `FILE.1`, in place of the one before. Default: no limit. */
  readonly maxFileBytes?: number;
}

const SECRET_FIELDS = ['secretAccessKey', 'sessionToken', 'credentials', 'authorization', 'password'];

export function createLogger(options: LogOptions): Logger {
  const redact = { paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]), censor: '[hidden]' };
  return pino(
    {
      level: options.level,
      redact,
      base: { pid: process.pid },
      timestamp: stdTimeFunctions.isoTime,
      serializers: { error: describeError },
    },
    options.file === undefined
      ? pino.destination({ dest: 2, sync: true })
      : boundedFile(options.file, options.maxFileBytes ?? Number.POSITIVE_INFINITY),
  );
}

/**
 * What is logged of an error. A fixed choice of fields: errors of the AWS SDK carry whole requests and answers, with their
 * signatures.
 */
function describeError(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return error;
  const { code, kind, status } = error as { code?: unknown; kind?: unknown; status?: unknown };
  const cause = error.cause === undefined || depth > 4 ? undefined : describeError(error.cause, depth + 1);
  return { name: error.name, message: error.message, code, kind, status, stack: error.stack, cause };
}

/** Also reopened at SIGHUP, for logrotate(8). */
function boundedFile(file: string, maxBytes: number): DestinationStream {
  const destination = pino.destination({ dest: file, sync: false, mode: 0o600 });
  let sizeBytes = 0;
  let isMoving = false;
  const reopen = async (move: boolean) => {
    if (isMoving) return;
    isMoving = true;
    try {
      // Lines that are written meanwhile still reach the moved file.
      if (move) await rename(file, `${file}.1`);
      destination.reopen();
      sizeBytes = 0;
    } finally {
      isMoving = false;
    }
  };
  const complain = (error: unknown) => process.stderr.write(`tsfs: the log file ${file} fails: ${String(error)}\n`);
  destination.on('error', complain);
  destination.on('write', (bytes) => {
    sizeBytes += bytes;
    if (sizeBytes > maxBytes) reopen(true).catch(complain);
  });
  process.on('SIGHUP', () => reopen(false).catch(complain));
  destination.once('ready', () => {
    stat(file).then(({ size }) => {
      sizeBytes += size;
    }, complain);
  });
  return destination;
}

/** For tests and for code paths where nothing should be said. */
export const silentLogger: Logger = pino({ level: 'silent' });
