import type { Database, Statement } from 'better-sqlite3';
import type { NodeId } from '../base/ids.ts';
import { INDEX_BATCH, type OpenRow, type OpenTable } from './contract.ts';

interface OpenRecord {
  readonly handle: number;
  readonly node: number;
  readonly flags: number;
  readonly backing_id: number;
  readonly backing_inode: number;
}

export class SqliteOpens implements OpenTable {
  readonly #put: Statement<[number, number, number, number, number]>;
  readonly #delete: Statement<[number]>;
  readonly #list: Statement<[number, number], OpenRecord>;
  readonly #clear: Statement<[]>;

  constructor(db: Database) {
    this.#put = db.prepare(
      'INSERT OR REPLACE INTO opens (handle, node, flags, backing_id, backing_inode) VALUES (?, ?, ?, ?, ?)',
    );
    this.#delete = db.prepare('DELETE FROM opens WHERE handle = ?');
    this.#list = db.prepare('SELECT * FROM opens WHERE handle > ? ORDER BY handle LIMIT ?');
    this.#clear = db.prepare('DELETE FROM opens');
  }

  put(row: OpenRow): void {
    this.#put.run(row.handle, row.node, row.flags, row.backingId, row.backingInode);
  }

  delete(handle: number): void {
    this.#delete.run(handle);
  }

  list(afterHandle: number, limit: number): OpenRow[] {
    return this.#list.all(afterHandle, Math.min(limit, INDEX_BATCH)).map(toRow);
  }

  clear(): void {
    this.#clear.run();
  }
}

function toRow({ handle, node, flags, backing_id, backing_inode }: OpenRecord): OpenRow {
  return { handle, node: node as NodeId, flags, backingId: backing_id, backingInode: backing_inode };
}
