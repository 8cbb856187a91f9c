import type { Database } from 'better-sqlite3';

/**
 * A function that runs in a transaction, all or nothing; within another one, in a savepoint. IMMEDIATE takes the write lock first, and waits
 * for it where the checkpoint thread has it. A transaction that reads first and then wants to write does not get to wait: SQLite answers
 * SQLITE_BUSY at once, since what was read could be out of date by then.
 */
export function inTransaction<Arguments extends unknown[], Result>(
  db: Database,
  body: (...values: Arguments) => Result,
): (...values: Arguments) => Result {
  return db.transaction(body).immediate;
}
