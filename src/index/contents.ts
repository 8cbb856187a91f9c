import type { Database, Statement } from 'better-sqlite3';
import { assert } from '../base/assert.ts';
import type { ContentId } from '../base/ids.ts';
import { type ContentRow, type ContentTable, INDEX_BATCH } from './contract.ts';
import { inTransaction } from './transaction.ts';

interface ContentRecord {
  readonly id: number;
  readonly size_bytes: number;
  readonly present_bytes: number;
  readonly used_at_ms: number;
  readonly checksums: Buffer;
}

type UseRecord = Pick<ContentRecord, 'id' | 'present_bytes' | 'used_at_ms'>;

/** Ids are set aside in such amounts, so that `allocate` writes nothing. */
const RESERVED_IDS = 2 ** 20;

export class SqliteContents implements ContentTable {
  readonly #get: Statement<[number], ContentRecord>;
  readonly #put: Statement<[number, number, number, number, Buffer]>;
  readonly #touch: Statement<[number, number]>;
  readonly #delete: Statement<[number]>;
  readonly #deleteEvery: Statement<[]>;
  readonly #oldest: Statement<[number], UseRecord>;
  readonly #ids: Statement<[number, number], number>;
  readonly #total: Statement<[], number>;
  readonly #reserve: Statement<[number], number>;
  readonly #touchAll: (uses: ReadonlyMap<ContentId, number>) => void;
  readonly #deleteAll: (ids: readonly ContentId[]) => void;
  #nextId: number;
  #endOfReserve: number;

  constructor(db: Database) {
    this.#get = db.prepare('SELECT * FROM contents WHERE id = ?');
    this.#put = db.prepare(`
      INSERT INTO contents (id, size_bytes, present_bytes, used_at_ms, checksums) VALUES (?, ?, ?, ?, ?)
      ON CONFLICT (id) DO UPDATE SET size_bytes = excluded.size_bytes, present_bytes = excluded.present_bytes,
        used_at_ms = excluded.used_at_ms, checksums = excluded.checksums`);
    this.#touch = db.prepare('UPDATE contents SET used_at_ms = ? WHERE id = ?');
    this.#delete = db.prepare('DELETE FROM contents WHERE id = ?');
    this.#deleteEvery = db.prepare('DELETE FROM contents');
    this.#oldest = db.prepare('SELECT id, present_bytes, used_at_ms FROM contents ORDER BY used_at_ms LIMIT ?');
    this.#ids = db
      .prepare<[number, number], number>('SELECT id FROM contents WHERE id > ? ORDER BY id LIMIT ?')
      .pluck();
    this.#total = db.prepare<[], number>("SELECT value FROM counters WHERE name = 'content_bytes'").pluck();
    this.#reserve = db
      .prepare<[number], number>("UPDATE counters SET value = value + ? WHERE name = 'next_content' RETURNING value")
      .pluck();
    this.#touchAll = inTransaction(db, (uses: ReadonlyMap<ContentId, number>) => {
      for (const [id, usedAtMs] of uses) this.#touch.run(usedAtMs, id);
    });
    this.#deleteAll = inTransaction(db, (ids: readonly ContentId[]) => {
      for (const id of ids) this.#delete.run(id);
    });
    this.#endOfReserve = this.#reserveMore();
    this.#nextId = this.#endOfReserve - RESERVED_IDS;
  }

  /**
   * Loss of power may take the newest transactions with it, but cache files named by ids of those may have stayed. So a reserve is
   * replenished when half of it is left: by the time its ids are used, the reservation has long been checkpointed. (The first
   * is flushed when the index opens.)
   */
  allocate(): ContentId {
    if (this.#endOfReserve - this.#nextId === RESERVED_IDS / 2) this.#endOfReserve = this.#reserveMore();
    const id = this.#nextId;
    this.#nextId += 1;
    return id as ContentId;
  }

  get(id: ContentId): ContentRow | undefined {
    const record = this.#get.get(id);
    return (
      record && {
        id,
        sizeBytes: record.size_bytes,
        checksums: toChecksums(record.checksums),
        presentBytes: record.present_bytes,
        usedAtMs: record.used_at_ms,
      }
    );
  }

  put(row: ContentRow): void {
    const { buffer, byteOffset, byteLength } = row.checksums;
    this.#put.run(row.id, row.sizeBytes, row.presentBytes, row.usedAtMs, Buffer.from(buffer, byteOffset, byteLength));
  }

  touch(uses: ReadonlyMap<ContentId, number>): void {
    this.#touchAll(uses);
  }

  delete(ids: readonly ContentId[]): void {
    this.#deleteAll(ids);
  }

  oldest(limit: number): readonly Pick<ContentRow, 'id' | 'presentBytes' | 'usedAtMs'>[] {
    return this.#oldest.all(Math.min(limit, INDEX_BATCH)).map((record) => ({
      id: record.id as ContentId,
      presentBytes: record.present_bytes,
      usedAtMs: record.used_at_ms,
    }));
  }

  ids(after: number, limit: number): readonly ContentId[] {
    return this.#ids.all(after, Math.min(limit, INDEX_BATCH)) as ContentId[];
  }

  totalPresentBytes(): number {
    return this.#total.get() ?? 0;
  }

  deleteAll(): void {
    this.#deleteEvery.run();
  }

  #reserveMore(): number {
    const end = this.#reserve.get(RESERVED_IDS);
    assert(end !== undefined, 'the counter of content ids is there');
    return end;
  }
}

/** In the byte order of this machine: the index never leaves it. The copy aligns the words. */
function toChecksums(bytes: Buffer): Uint32Array {
  const checksums = new Uint32Array(Math.floor(bytes.byteLength / Uint32Array.BYTES_PER_ELEMENT));
  Buffer.from(checksums.buffer).set(bytes.subarray(0, checksums.byteLength));
  return checksums;
}
