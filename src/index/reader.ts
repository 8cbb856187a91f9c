import Database from 'better-sqlite3';
import type { ContentId } from '../base/ids.ts';
import { INDEX_BATCH, type Index, IndexError, type NodeRow } from './contract.ts';
import { damageOf } from './damage.ts';
import { KIND_CODES, type NodeRecord, toRow } from './node-row.ts';
import { SqliteNodes } from './nodes.ts';
import { SqlitePending } from './pending.ts';

/** What can be read of an index without being its owner. */
export interface IndexReader extends Pick<Index, 'nodes' | 'pending'> {
  /** Files and links that have a name and a version in the bucket, with `id > after`, in order of id. */
  files(after: number): NodeRow[];
  /** Names of what a content belongs to: looks through all names. */
  ownerOf(content: ContentId): NodeRow | undefined;
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
    const files = db.prepare<[number], NodeRecord>(
      `SELECT * FROM nodes WHERE id > ? AND kind <> ${KIND_CODES.directory} AND parent IS NOT NULL AND etag IS NOT NULL
        ORDER BY id LIMIT ${INDEX_BATCH}`,
    );
    const owner = db.prepare<[number], NodeRecord>('SELECT * FROM nodes WHERE content = ? LIMIT 1');
    return {
      nodes: new SqliteNodes(db, false),
      pending: new SqlitePending(db),
      files: (after) => files.all(after).map(toRow),
      ownerOf: (content) => owner.all(content).map(toRow)[0],
      close: () => db.close(),
    };
  } catch (error) {
    db.close();
    const damage = damageOf(path, error);
    if (damage !== undefined) throw damage;
    throw new IndexError('newer', `the index ${path} was written by another version of tsfs`, error);
  }
}
