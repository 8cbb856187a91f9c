import Database from 'better-sqlite3';
import { type Index, IndexError } from './contract.ts';
import { damageOf } from './damage.ts';
import { SqliteNodes } from './nodes.ts';
import { SqlitePending } from './pending.ts';

/** What can be read of an index without being its owner. */
export interface IndexReader extends Pick<Index, 'nodes' | 'pending'> {
  close(): void;
}

const BUSY_TIMEOUT_MS = 1000;

/**
 * Opens an index only to look at it: takes no lock, migrates nothing; whatever would change it throws. Throws IndexError: `damaged`, or `newer`
 * when it is of another version; the SqliteError SQLITE_CANTOPEN when there is none.
 */
export function openIndexReader(path: string): IndexReader {
  const db = new Database(path, { readonly: true, fileMustExist: true, timeout: BUSY_TIMEOUT_MS });
  try {
    return { nodes: new SqliteNodes(db), pending: new SqlitePending(db), close: () => db.close() };
  } catch (error) {
    db.close();
    const damage = damageOf(path, error);
    if (damage !== undefined) throw damage;
    throw new IndexError('newer', `the index ${path} was written by another version of tsfs`, error);
  }
}
