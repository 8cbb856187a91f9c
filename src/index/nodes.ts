import type { Database, Statement } from 'better-sqlite3';
import { LRUCache } from 'lru-cache';
import { assert } from '../base/assert.ts';
import { FIRST_NODE_ID, type NodeId, ROOT_NODE_ID } from '../base/ids.ts';
import {
  type AppliedListing,
  INDEX_BATCH,
  type ListedName,
  type NodeFields,
  type NodeRow,
  type NodeTable,
  type Sweep,
} from './contract.ts';
import { ListingWriter } from './listing.ts';
import { KIND_CODES, type NodeRecord, toRow, toValues, VALUE_COLUMNS } from './node-row.ts';
import { inTransaction } from './transaction.ts';

/** An operation looks at the same few rows a dozen times, and to read one takes SQLite and the conversion 10 µs. At most some 3 MiB. */
const MAX_KEPT_ROWS = 4096;

export class SqliteNodes implements NodeTable {
  onChange: (id: NodeId) => void = () => undefined;
  readonly #get: Statement<[number], NodeRecord>;
  readonly #child: Statement<[number, string], NodeRecord>;
  readonly #children: Statement<[number, number, number], NodeRecord>;
  readonly #childIds: Statement<[number, number], { id: NodeId; kind: number }>;
  readonly #anyChild: Statement<[number], unknown>;
  readonly #insert: Statement;
  readonly #update: Statement;
  readonly #move: Statement<[number, string, number]>;
  readonly #detach: Statement<[number]>;
  readonly #delete: Statement<[number]>;
  readonly #detached: Statement<[number], NodeRecord>;
  readonly #dirty: Statement<[number, number], NodeRecord>;
  readonly #count: Statement<[], number>;
  readonly #lastId: Statement<[], number>;
  readonly #removeAll: (id: NodeId) => boolean;
  readonly #listing: ListingWriter;
  /** Rows as they are. Whatever writes to the table drops them here first. */
  readonly #kept: LRUCache<NodeId, NodeRow> | undefined;

  /** `isOwner`: nobody else writes to the database. */
  constructor(db: Database, isOwner: boolean) {
    this.#kept = isOwner ? new LRUCache({ max: MAX_KEPT_ROWS }) : undefined;
    const places = VALUE_COLUMNS.map(() => '?').join(', ');
    this.#get = db.prepare('SELECT * FROM nodes WHERE id = ?');
    this.#child = db.prepare('SELECT * FROM nodes WHERE parent = ? AND name = ?');
    this.#children = db.prepare('SELECT * FROM nodes WHERE parent = ? AND id > ? ORDER BY id LIMIT ?');
    this.#childIds = db.prepare('SELECT id, kind FROM nodes WHERE parent = ? LIMIT ?');
    this.#anyChild = db.prepare('SELECT 1 FROM nodes WHERE parent = ? LIMIT 1');
    this.#insert = db.prepare(`INSERT INTO nodes (parent, name, ${VALUE_COLUMNS.join(', ')}) VALUES (?, ?, ${places})`);
    this.#update = db.prepare(
      `UPDATE nodes SET ${VALUE_COLUMNS.map((column) => `${column} = ?`).join(', ')} WHERE id = ?`,
    );
    this.#move = db.prepare('UPDATE nodes SET parent = ?, name = ? WHERE id = ?');
    this.#detach = db.prepare('UPDATE nodes SET parent = NULL WHERE id = ?');
    this.#delete = db.prepare('DELETE FROM nodes WHERE id = ?');
    this.#detached = db.prepare(
      `SELECT * FROM nodes WHERE parent IS NULL AND id > ${ROOT_NODE_ID} ORDER BY id LIMIT ?`,
    );
    this.#dirty = db.prepare('SELECT * FROM nodes WHERE dirty = 1 AND id > ? ORDER BY id LIMIT ?');
    this.#lastId = db.prepare<[], number>("SELECT seq FROM sqlite_sequence WHERE name = 'nodes'").pluck();
    this.#count = db.prepare<[], number>("SELECT value FROM counters WHERE name = 'nodes'").pluck();
    this.#removeAll = inTransaction(db, (id: NodeId) => this.#removeTree(id));
    this.#listing = new ListingWriter(db);
  }

  get(id: NodeId): NodeRow | undefined {
    const kept = this.#kept?.get(id);
    if (kept !== undefined) return kept;
    const record = this.#get.get(id);
    return record && this.#keep(toRow(record));
  }

  child(parent: NodeId, name: string): NodeRow | undefined {
    const record = this.#child.get(parent, name);
    return record && this.#keep(toRow(record));
  }

  children(parent: NodeId, after: number, limit: number): NodeRow[] {
    return this.#children.all(parent, after, Math.min(limit, INDEX_BATCH)).map(toRow);
  }

  hasChildren(parent: NodeId): boolean {
    return this.#anyChild.get(parent) !== undefined;
  }

  insert(fields: NodeFields): NodeRow {
    const { lastInsertRowid } = this.#insert.run(fields.parent ?? null, fields.name, ...toValues(fields));
    return { ...fields, id: Number(lastInsertRowid) as NodeId };
  }

  update(id: NodeId, change: Partial<Omit<NodeFields, 'parent' | 'name'>>): void {
    const row = this.get(id);
    if (row === undefined) return;
    this.#beforeChange(id);
    const forgotten = 'etag' in change ? { lastModifiedMs: undefined } : {};
    this.#update.run(...toValues({ ...row, ...forgotten, ...change }), id);
  }

  move(id: NodeId, parent: NodeId, name: string): void {
    assert(id !== ROOT_NODE_ID, 'the root does not move');
    this.#beforeChange(id);
    this.#move.run(parent, name, id);
  }

  detach(id: NodeId): void {
    assert(id !== ROOT_NODE_ID, 'the root has no name to lose');
    this.#beforeChange(id);
    this.#detach.run(id);
  }

  remove(id: NodeId): boolean {
    assert(id !== ROOT_NODE_ID, 'the root stays');
    this.#beforeChange(id);
    return this.#removeAll(id);
  }

  detached(limit: number): NodeRow[] {
    return this.#detached.all(Math.min(limit, INDEX_BATCH)).map(toRow);
  }

  dirty(after: number, limit: number): NodeRow[] {
    return this.#dirty.all(after, Math.min(limit, INDEX_BATCH)).map(toRow);
  }

  applyListing(parent: NodeId, names: readonly ListedName[], startedAtMs: number): AppliedListing {
    this.forgetKept();
    const applied = this.#listing.apply(parent, names, startedAtMs);
    for (const { oldId } of applied.replacements) this.onChange(oldId);
    for (const { id } of applied.questioned) this.onChange(id);
    return applied;
  }

  sweep(parent: NodeId, startedAtMs: number, after: number): Sweep {
    this.forgetKept();
    const swept = this.#listing.sweep(parent, startedAtMs, after);
    for (const { id } of swept.detached) this.onChange(id);
    return swept;
  }

  lastId(): NodeId {
    return (this.#lastId.get() ?? FIRST_NODE_ID - 1) as NodeId;
  }

  count(): number {
    return this.#count.get() ?? 0;
  }

  /** After a transaction that was rolled back: what was read within it may never have been. */
  forgetKept(): void {
    this.#kept?.clear();
  }

  #keep(row: NodeRow): NodeRow {
    this.#kept?.set(row.id, row);
    return row;
  }

  #beforeChange(id: NodeId): void {
    this.onChange(id);
    this.#kept?.delete(id);
  }

  /** The row itself goes last: were it gone first, a crash would leave the rows below it where nobody finds them. */
  #removeTree(id: NodeId): boolean {
    const budget = { left: INDEX_BATCH };
    const isAll = this.#removeBelow(id, budget);
    if (isAll) this.#delete.run(id);
    else this.#detach.run(id);
    return isAll;
  }

  /** Depth first, children before parents. As deep as keys are: at most 512 levels. */
  #removeBelow(parent: number, budget: { left: number }): boolean {
    for (;;) {
      // One row more than may go, to learn whether that was all.
      const children = this.#childIds.all(parent, budget.left + 1);
      if (children.length === 0) return true;
      for (const child of children) {
        if (child.kind === KIND_CODES.directory && !this.#removeBelow(child.id, budget)) return false;
        if (budget.left === 0) return false;
        budget.left -= 1;
        this.#kept?.delete(child.id);
        this.#delete.run(child.id);
      }
    }
  }
}
