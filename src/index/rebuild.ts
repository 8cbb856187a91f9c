/** What becomes of an index that cannot be used: it is set aside, and a new one takes its place, filled from the bucket as names are asked for. */
import { existsSync, renameSync, rmSync } from 'node:fs';
import Database from 'better-sqlite3';
import { FIRST_NODE_ID } from '../base/ids.ts';
import type { IntentAction } from './contract.ts';
import { DAMAGE_MARK } from './damage.ts';
import { SqliteFacts } from './facts.ts';
import { SqlitePending } from './pending.ts';
import { inTransaction } from './transaction.ts';

/** One is kept, the newest. */
const ASIDE = '.damaged';
const FILES = ['', '-wal', '-shm'];

/** Ids of nodes given in a millisecond are fewer, so that those of the next index begin above all of this one. */
const IDS_PER_MS = 1024;

/** What there is to salvage is little. */
const SALVAGED_MAX = 10_000;

/** Synchronous, like the rest of a start: three renames. Returns where the index is now. The caller has its lock. */
export function setAside(path: string): string {
  for (const suffix of FILES) {
    rmSync(path + ASIDE + suffix, { force: true });
    if (existsSync(path + suffix)) renameSync(path + suffix, path + ASIDE + suffix);
  }
  rmSync(path + DAMAGE_MARK, { force: true });
  return path + ASIDE;
}

/** Node ids that a kernel may still know from the index before must mean nothing here. */
export function skipUsedIds(db: Database.Database, nowMs: number): void {
  const first = Math.max(FIRST_NODE_ID, nowMs * IDS_PER_MS);
  db.prepare("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'nodes'").run(first - 1);
}

export interface Salvaged {
  /** Taken over. */
  readonly kept: readonly IntentAction[];
  /** Begun, and only half understood without the index: the bucket stays as it is, which may be with both names. */
  readonly lost: readonly IntentAction[];
}

/** Takes over what can still be read of what is small and precious: facts, and deletes that programs believe done. */
export function salvage(damagedPath: string, db: Database.Database, nowMs: number): Salvaged {
  const version = Number(db.pragma('user_version', { simple: true }));
  const [found] = readAll<{ user_version: number }>(damagedPath, 'PRAGMA user_version');
  if (found?.user_version !== version) return { kept: [], lost: [] };
  const facts = readAll<{ name: string; value: string }>(damagedPath, 'SELECT name, value FROM facts');
  const intents = readAll<{ action: string }>(damagedPath, 'SELECT action FROM intents ORDER BY id').flatMap(parse);
  // Others name nodes.
  const isWhole = ({ kind }: IntentAction) => kind === 'delete' || kind === 'removeTree';
  const salvaged = { kept: intents.filter(isWhole), lost: intents.filter((action) => !isWhole(action)) };
  inTransaction(db, () => {
    const table = new SqliteFacts(db);
    for (const { name, value } of facts) table.set(name, value);
    const pending = new SqlitePending(db);
    for (const action of salvaged.kept) pending.addIntent(action, nowMs);
  })();
  return salvaged;
}

function parse({ action }: { readonly action: string }): IntentAction[] {
  try {
    const value = JSON.parse(action) as IntentAction;
    return typeof value.kind === 'string' ? [value] : [];
  } catch {
    return []; // A damaged row.
  }
}

function readAll<T>(path: string, sql: string): T[] {
  const rows: T[] = [];
  let db: Database.Database | undefined;
  try {
    db = new Database(path, { readonly: true, fileMustExist: true });
    for (const row of db.prepare<[], T>(sql).iterate()) {
      rows.push(row);
      if (rows.length === SALVAGED_MAX) break;
    }
  } catch {
    // It is damaged: so far and no further.
  } finally {
    db?.close();
  }
  return rows;
}
