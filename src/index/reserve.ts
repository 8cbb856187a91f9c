/**
 * Room on the disk that the index has before it needs it. When staging files, or other programs, have filled the disk, names are still found, files
 * are read, and what was uploaded is noted.
 */
import { closeSync, fstatSync, openSync, writeSync } from 'node:fs';
import type { Database } from 'better-sqlite3';
import { hasCode } from './damage.ts';
import { inTransaction } from './transaction.ts';

/** Of the write-ahead log: some hundred transactions, until a checkpoint lets it begin anew. */
export const LOG_RESERVE_BYTES = 4 * 1024 * 1024;

/** Of the database, in pages of 4 KiB that belong to it and are not in use: a thousand new names or more. */
const RESERVED_PAGES = 256;
const PIECE_BYTES = RESERVED_PAGES * 4096;

/**
 * The log is as long as the reserve from now on. Zeros behind its last frame mean nothing to SQLite, like the frames of earlier rounds that are
 * there as a rule. Throws what write(2) does: ENOSPC.
 */
export function reserveLog(path: string): void {
  const fd = openSync(path, 'r+');
  try {
    const { size } = fstatSync(fd);
    const zeros = Buffer.alloc(Math.max(0, LOG_RESERVE_BYTES - size));
    for (let done = 0; done < zeros.length; ) done += writeSync(fd, zeros, done, zeros.length - done, size + done);
  } finally {
    closeSync(fd);
  }
}

/** Called now and then. On a full disk nothing is added: the reserve is used up then. */
export function reservePages(db: Database): void {
  if (Number(db.pragma('freelist_count', { simple: true })) >= RESERVED_PAGES) return;
  try {
    // Two transactions: pages that one takes and gives back never get to the disk.
    db.prepare('INSERT INTO reserve (bytes) VALUES (zeroblob(?))').run(PIECE_BYTES);
  } catch (error) {
    if (!hasCode(error, 'SQLITE_FULL')) throw error;
  }
  inTransaction(db, () => db.exec('DELETE FROM reserve'))();
}
