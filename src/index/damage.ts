import Database from 'better-sqlite3';
import { IndexError } from './contract.ts';

/** The error as one of a damaged index; undefined when it is none. */
export function damageOf(path: string, error: unknown): IndexError | undefined {
  if (!isDamage(error)) return undefined;
  return new IndexError('damaged', `the index ${path} is damaged`, error);
}

/** What SQLite throws when it meets pages that make no sense. */
export function isDamage(error: unknown): boolean {
  return hasCode(error, 'SQLITE_CORRUPT') || hasCode(error, 'SQLITE_NOTADB');
}

/** Extended codes begin with the plain one: SQLITE_BUSY_RECOVERY, SQLITE_CORRUPT_INDEX. */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Database.SqliteError && error.code.startsWith(code);
}
