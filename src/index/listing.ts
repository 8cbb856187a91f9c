/** How a listing of the bucket changes the rows of one directory. See `NodeTable.applyListing` for the rules. */
import type { Database, Statement } from 'better-sqlite3';
import { timespecFromMs } from '../base/clock.ts';
import type { NodeId } from '../base/ids.ts';
import {
  type AppliedListing,
  INDEX_BATCH,
  type ListedName,
  type NodeRow,
  type Replacement,
  type Sweep,
} from './contract.ts';
import { KIND_CODES, type NodeRecord, toRow } from './node-row.ts';
import { inTransaction } from './transaction.ts';

type ListedFile = Extract<ListedName, { kind: 'file' }>;
type ListedDirectory = Extract<ListedName, { kind: 'directory' }>;

/** What the rules need to know of a row. */
interface Known {
  readonly id: number;
  readonly kind: number;
  readonly etag: string | null;
  readonly marker: string | null;
  readonly complete: number;
  readonly dirty: number;
  readonly validated_at_ms: number;
  readonly last_modified_ms: number | null;
}

export class ListingWriter {
  readonly #known: Statement<[number, string], Known>;
  readonly #insertFile: Statement<[number, string, number, number, number, number, string, number]>;
  readonly #insertDirectory: Statement<[number, string, number, string | null]>;
  readonly #validateFile: Statement<[number, number, number]>;
  readonly #validateDirectory: Statement<[number, string | null, number]>;
  readonly #refreshFile: Statement<[number, number, number, number, number, number]>;
  readonly #questionFile: Statement<[number, number, number]>;
  readonly #detach: Statement<[number]>;
  readonly #page: Statement<[number, number, number], { id: number; dirty: number; validated_at_ms: number }>;
  readonly #get: Statement<[number], NodeRecord>;
  readonly apply: (parent: NodeId, names: readonly ListedName[], startedAtMs: number) => AppliedListing;
  readonly sweep: (parent: NodeId, startedAtMs: number, after: number) => Sweep;

  constructor(db: Database) {
    this.#known = db.prepare(`
      SELECT id, kind, etag, marker, complete, dirty, validated_at_ms, last_modified_ms
      FROM nodes WHERE parent = ? AND name = ?`);
    this.#insertFile = db.prepare(`
      INSERT INTO nodes (parent, name, kind, size_bytes, mtime_sec, mtime_nsec, last_modified_ms, etag, validated_at_ms)
      VALUES (?, ?, ${KIND_CODES.file}, ?, ?, ?, ?, ?, ?)`);
    this.#insertDirectory = db.prepare(`
      INSERT INTO nodes (parent, name, kind, validated_at_ms, marker) VALUES (?, ?, ${KIND_CODES.directory}, ?, ?)`);
    this.#validateFile = db.prepare('UPDATE nodes SET validated_at_ms = ?, last_modified_ms = ? WHERE id = ?');
    this.#validateDirectory = db.prepare('UPDATE nodes SET validated_at_ms = ?, marker = ? WHERE id = ?');
    this.#refreshFile = db.prepare(`
      UPDATE nodes SET validated_at_ms = ?, last_modified_ms = ?, size_bytes = ?, mtime_sec = ?, mtime_nsec = ? WHERE id = ?`);
    this.#questionFile = db.prepare(
      'UPDATE nodes SET validated_at_ms = ?, last_modified_ms = ?, complete = 0 WHERE id = ?',
    );
    this.#detach = db.prepare('UPDATE nodes SET parent = NULL WHERE id = ?');
    this.#page = db.prepare(`
      SELECT id, dirty, validated_at_ms FROM nodes WHERE parent = ? AND id > ? ORDER BY id LIMIT ?`);
    this.#get = db.prepare('SELECT * FROM nodes WHERE id = ?');
    this.apply = inTransaction(db, (parent: NodeId, names: readonly ListedName[], startedAtMs: number) =>
      this.#applyAll(parent, names, startedAtMs),
    );
    this.sweep = inTransaction(db, (parent: NodeId, startedAtMs: number, after: number) =>
      this.#sweepSome(parent, startedAtMs, after),
    );
  }

  #applyAll(parent: NodeId, names: readonly ListedName[], startedAtMs: number): AppliedListing {
    const replacements: Replacement[] = [];
    const questioned: { name: string; id: NodeId }[] = [];
    let added = 0;
    for (const listed of names) {
      const known = this.#known.get(parent, listed.name);
      if (known === undefined) {
        this.#insert(parent, listed, startedAtMs);
        added += 1;
      } else if (maySpeakOf(known, listed, startedAtMs)) {
        const replacement = this.#merge(parent, known, listed, startedAtMs);
        if (replacement === 'questioned') questioned.push({ name: listed.name, id: known.id as NodeId });
        else if (replacement !== undefined) replacements.push(replacement);
      }
    }
    return { replacements, questioned, added };
  }

  #merge(
    parent: NodeId,
    known: Known,
    listed: ListedName,
    startedAtMs: number,
  ): Replacement | 'questioned' | undefined {
    if (listed.kind === 'directory' && known.kind === KIND_CODES.directory) {
      this.#validateDirectory.run(startedAtMs, listed.marker ?? known.marker, known.id);
      return undefined;
    }
    // A later page may name the directory as well, and then it wins. If none does, the sweep takes its name away.
    if (listed.kind === 'file' && known.kind === KIND_CODES.directory) return undefined;
    if (listed.kind === 'file' && listed.etag === known.etag) {
      return this.#validate(known, listed, startedAtMs) ? undefined : 'questioned';
    }
    this.#detach.run(known.id);
    const newId = this.#insert(parent, listed, startedAtMs);
    return { name: listed.name, oldId: known.id as NodeId, newId };
  }

  /** The bytes are the same. Are the metadata? False: who believes them must ask again. */
  #validate(known: Known, listed: ListedFile, startedAtMs: number): boolean {
    const { lastModifiedMs } = listed;
    const isSameTime = known.last_modified_ms === null || seconds(known.last_modified_ms) === seconds(lastModifiedMs);
    if (known.complete === 1 || known.kind === KIND_CODES.symlink) {
      if (isSameTime) this.#validateFile.run(startedAtMs, lastModifiedMs, known.id);
      else this.#questionFile.run(startedAtMs, lastModifiedMs, known.id);
      return isSameTime;
    }
    // A row that was complete once and is in question keeps its times until they are asked for: they may not be Last-Modified.
    if (isSameTime && known.last_modified_ms !== null) this.#validateFile.run(startedAtMs, lastModifiedMs, known.id);
    else {
      const { sec, nsec } = timespecFromMs(lastModifiedMs);
      this.#refreshFile.run(startedAtMs, lastModifiedMs, listed.sizeBytes, sec, nsec, known.id);
    }
    return true;
  }

  #insert(parent: NodeId, listed: ListedFile | ListedDirectory, startedAtMs: number): NodeId {
    if (listed.kind === 'directory') {
      const made = this.#insertDirectory.run(parent, listed.name, startedAtMs, listed.marker ?? null);
      return Number(made.lastInsertRowid) as NodeId;
    }
    const { sec, nsec } = timespecFromMs(listed.lastModifiedMs);
    const made = this.#insertFile.run(
      parent,
      listed.name,
      listed.sizeBytes,
      sec,
      nsec,
      listed.lastModifiedMs,
      listed.etag,
      startedAtMs,
    );
    return Number(made.lastInsertRowid) as NodeId;
  }

  #sweepSome(parent: NodeId, startedAtMs: number, after: number): Sweep {
    const page = this.#page.all(parent, after, INDEX_BATCH);
    const detached: NodeRow[] = [];
    for (const { id, dirty, validated_at_ms } of page) {
      if (dirty === 1 || validated_at_ms >= startedAtMs) continue;
      const record = this.#get.get(id);
      if (record !== undefined) detached.push(toRow(record));
      this.#detach.run(id);
    }
    return { detached, next: page.length < INDEX_BATCH ? undefined : page.at(-1)?.id };
  }
}

/** Local changes are newer than the listing, and a name that it has told already is done. */
function maySpeakOf(known: Known, listed: ListedName, startedAtMs: number): boolean {
  if (known.dirty === 1 || known.validated_at_ms > startedAtMs) return false;
  if (known.validated_at_ms < startedAtMs) return true;
  // An earlier page of this same listing may have named the file `a`, and this page the directory `a/`: the directory wins.
  return listed.kind === 'directory' && known.kind !== KIND_CODES.directory;
}

/** HEAD and Last-Modified headers have whole seconds, listings of some stores have more. */
function seconds(ms: number): number {
  return Math.floor(ms / 1000);
}
