import type { Database, Statement } from 'better-sqlite3';
import type { Extent } from '../base/extents.ts';
import type { NodeId } from '../base/ids.ts';
import {
  type DurableStaging,
  INDEX_BATCH,
  type IntentAction,
  type IntentRow,
  type PendingTable,
  type StagingRow,
} from './contract.ts';
import { inTransaction } from './transaction.ts';

interface StagingRecord {
  readonly node: number;
  readonly file: string;
  readonly base_size_bytes: number;
  readonly created_at_ms: number;
  readonly error: string | null;
  readonly durable: string | null;
  readonly expected_etag: string | null;
  readonly exclusive: number;
}

interface IntentRecord {
  readonly id: number;
  readonly action: string;
  readonly created_at_ms: number;
  readonly error: string | null;
}

export class SqlitePending implements PendingTable {
  readonly #putStaging: Statement;
  readonly #getStaging: Statement<[number], StagingRecord>;
  readonly #deleteStaging: Statement<[number]>;
  readonly #stagings: Statement<[number, number], StagingRecord>;
  readonly #insertExtent: Statement<[number, number, number]>;
  readonly #deleteWithin: Statement<[number, number, number]>;
  readonly #deleteExtents: Statement<[number]>;
  readonly #extents: Statement<[number], Extent>;
  readonly #addIntent: Statement<[string, number]>;
  readonly #setIntent: Statement<[string, number]>;
  readonly #failIntent: Statement<[string, number]>;
  readonly #deleteIntent: Statement<[number]>;
  readonly #intents: Statement<[number, number], IntentRecord>;
  readonly #counts: Statement<[], { stagings: number; intents: number }>;
  readonly putExtent: (node: NodeId, extent: Extent) => void;
  readonly setExtents: (node: NodeId, extents: readonly Extent[]) => void;
  readonly deleteStaging: (node: NodeId) => void;

  constructor(db: Database) {
    this.#putStaging = db.prepare(`
      INSERT INTO stagings (node, file, base_size_bytes, created_at_ms, error, durable, expected_etag, exclusive)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT (node) DO UPDATE SET file = excluded.file, base_size_bytes = excluded.base_size_bytes,
        created_at_ms = excluded.created_at_ms, error = excluded.error, durable = excluded.durable,
        expected_etag = excluded.expected_etag, exclusive = excluded.exclusive`);
    this.#getStaging = db.prepare('SELECT * FROM stagings WHERE node = ?');
    this.#deleteStaging = db.prepare('DELETE FROM stagings WHERE node = ?');
    this.#stagings = db.prepare('SELECT * FROM stagings WHERE node > ? ORDER BY node LIMIT ?');
    this.#insertExtent = db.prepare('INSERT INTO staging_extents (node, start, end) VALUES (?, ?, ?)');
    this.#deleteWithin = db.prepare('DELETE FROM staging_extents WHERE node = ? AND start BETWEEN ? AND ?');
    this.#deleteExtents = db.prepare('DELETE FROM staging_extents WHERE node = ?');
    this.#extents = db.prepare('SELECT start, end FROM staging_extents WHERE node = ? ORDER BY start');
    this.#addIntent = db.prepare('INSERT INTO intents (action, created_at_ms) VALUES (?, ?)');
    this.#setIntent = db.prepare('UPDATE intents SET action = ?, error = NULL WHERE id = ?');
    this.#failIntent = db.prepare('UPDATE intents SET error = ? WHERE id = ?');
    this.#deleteIntent = db.prepare('DELETE FROM intents WHERE id = ?');
    this.#intents = db.prepare('SELECT * FROM intents WHERE id > ? ORDER BY id LIMIT ?');
    this.#counts = db.prepare(
      'SELECT (SELECT count(*) FROM stagings) AS stagings, (SELECT count(*) FROM intents) AS intents',
    );
    this.putExtent = inTransaction(db, (node: NodeId, { start, end }: Extent) => {
      this.#deleteWithin.run(node, start, end);
      this.#insertExtent.run(node, start, end);
    });
    this.setExtents = inTransaction(db, (node: NodeId, extents: readonly Extent[]) => {
      this.#deleteExtents.run(node);
      for (const { start, end } of extents) this.#insertExtent.run(node, start, end);
    });
    this.deleteStaging = inTransaction(db, (node: NodeId) => {
      this.#deleteStaging.run(node);
      this.#deleteExtents.run(node);
    });
  }

  putStaging(row: StagingRow): void {
    const durable = row.durable === undefined ? null : JSON.stringify(row.durable);
    const { node, file, baseSizeBytes, createdAtMs, error = null, expectedEtag = null } = row;
    const exclusive = Number(row.isExclusive);
    this.#putStaging.run(node, file, baseSizeBytes, createdAtMs, error, durable, expectedEtag, exclusive);
  }

  getStaging(node: NodeId): StagingRow | undefined {
    const record = this.#getStaging.get(node);
    return record && toStaging(record);
  }

  stagings(afterNode: number, limit: number): readonly StagingRow[] {
    return this.#stagings.all(afterNode, Math.min(limit, INDEX_BATCH)).map(toStaging);
  }

  extents(node: NodeId): readonly Extent[] {
    return this.#extents.all(node);
  }

  addIntent(action: IntentAction, createdAtMs: number): number {
    return Number(this.#addIntent.run(JSON.stringify(action), createdAtMs).lastInsertRowid);
  }

  setIntent(id: number, action: IntentAction): void {
    this.#setIntent.run(JSON.stringify(action), id);
  }

  failIntent(id: number, error: string): void {
    this.#failIntent.run(error, id);
  }

  deleteIntent(id: number): void {
    this.#deleteIntent.run(id);
  }

  intents(afterId: number, limit: number): readonly IntentRow[] {
    return this.#intents.all(afterId, Math.min(limit, INDEX_BATCH)).map(toIntent);
  }

  /** A walk over both tables, which are short: what is pending is bounded by open files and uploads under way. */
  counts(): { readonly stagings: number; readonly intents: number } {
    return this.#counts.get() ?? { stagings: 0, intents: 0 };
  }
}

function toStaging(record: StagingRecord): StagingRow {
  return {
    node: record.node as NodeId,
    file: record.file,
    baseSizeBytes: record.base_size_bytes,
    createdAtMs: record.created_at_ms,
    error: record.error ?? undefined,
    durable: record.durable === null ? undefined : (JSON.parse(record.durable) as DurableStaging),
    expectedEtag: record.expected_etag ?? undefined,
    isExclusive: record.exclusive === 1,
  };
}

function toIntent(record: IntentRecord): IntentRow {
  return {
    id: record.id,
    action: JSON.parse(record.action) as IntentAction,
    createdAtMs: record.created_at_ms,
    error: record.error ?? undefined,
  };
}
