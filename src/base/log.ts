import { type Logger as PinoLogger, pino } from 'pino';

/**
 * The logger that every layer is given. Structured: `log.warn({ key, error }, 'upload failed')`.
 * Secrets are never passed to it; as a second line of defence well-known field names are redacted.
 */
export type Logger = PinoLogger;

export interface LogOptions {
  readonly level: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent';
  /** Absolute path of a log file, or undefined for stderr. */
  readonly file?: string;
}

const SECRET_FIELDS = ['secretAccessKey', 'sessionToken', 'credentials', 'authorization', 'password'];

export function createLogger(options: LogOptions): Logger {
  const redact = { paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]), censor: '[hidden]' };
  const destination = pino.destination({ dest: options.file ?? 2, sync: options.file === undefined, mkdir: false });
  return pino({ level: options.level, redact, base: { pid: process.pid } }, destination);
}

/** For tests and for code paths where nothing should be said. */
export const silentLogger: Logger = pino({ level: 'silent' });
