/** How a damaged index is told from one that cannot be used for other reasons. */
import { existsSync, statSync, writeFileSync } from 'node:fs';
import Database from 'better-sqlite3';
import { IndexError } from './contract.ts';

/** Beside the index: a process has met damage in it. */
export const DAMAGE_MARK = '.damaged-mark';

/** Looked through at each start; a tenth of a second at most. Damage of larger ones is met when it is read. */
const LOOKED_THROUGH_MAX_BYTES = 32 * 1024 * 1024;

/** The error as one of a damaged index; undefined when it is none. */
export function damageOf(path: string, error: unknown): IndexError | undefined {
  if (error instanceof IndexError) return error.reason === 'busy' ? undefined : error;
  // SQLITE_ERROR while opening: tables or columns are missing, or there already.
  if (!isDamage(error) && !hasCode(error, 'SQLITE_ERROR')) return undefined;
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

/** The next start makes the index anew. */
export function markDamaged(path: string): void {
  writeFileSync(path + DAMAGE_MARK, '', { mode: 0o600 });
}

export function isMarkedDamaged(path: string): boolean {
  return existsSync(path + DAMAGE_MARK);
}

/** Throws IndexError, or SqliteError, when the index is known to be damaged, or is small and turns out to be. */
export function lookThrough(db: Database.Database): void {
  if (isMarkedDamaged(db.name)) throw new IndexError('damaged', `the index ${db.name} was found damaged`);
  // A file that was cut to nothing is a new database to SQLite.
  if (Number(db.pragma('user_version', { simple: true })) === 0)
    throw new IndexError('damaged', `the index ${db.name} is empty`);
  if (statSync(db.name).size > LOOKED_THROUGH_MAX_BYTES) return;
  if (db.pragma('quick_check(1)', { simple: true }) !== 'ok')
    throw new IndexError('damaged', `the index ${db.name} is damaged`);
}
