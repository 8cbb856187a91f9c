import { closeSync, fsyncSync, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import Database from 'better-sqlite3';
import type { Logger } from '../base/log.ts';
import { Checkpointer } from './checkpoint.ts';
import { SqliteContents } from './contents.ts';
import { type Index, IndexError } from './contract.ts';
import { damageOf, hasCode, lookThrough } from './damage.ts';
import { SqliteFacts } from './facts.ts';
import { SqliteNodes } from './nodes.ts';
import { SqliteOpens } from './opens.ts';
import { SqlitePending } from './pending.ts';
import { salvage, setAside, skipUsedIds } from './rebuild.ts';
import { LOG_RESERVE_BYTES, reserveLog } from './reserve.ts';
import { migrate } from './schema.ts';
import { inTransaction } from './transaction.ts';
import { WalSync } from './wal-sync.ts';

export interface IndexOptions {
  /** Absolute path of the database. Its directory is created 0700 when missing. `-wal`, `-shm` and `.lock` files appear beside it. */
  readonly path: string;
  readonly log: Logger;
  /** The write-ahead log is cut back when it is larger. Also what a start after a crash has to read at most, about. */
  readonly walLimitBytes?: number;
  /**
   * A damaged index, or one of a newer version, is set aside, and a new one made in its place. Small ones are looked through before they are used.
   */
  readonly rebuild?: boolean;
}

const WAL_LIMIT_BYTES = 32 * 1024 * 1024;
const CACHE_KIB = 16 * 1024;

/**
 * Only the checkpoint thread can be in the way: for milliseconds as a rule, for longer when more is written than the disk takes. Waiting is
 * better then than failing.
 */
const BUSY_TIMEOUT_MS = 10_000;

/**
 * Opens the index, or creates it. Throws IndexError: `busy` when another process has it, `newer`, `damaged`. Damage is noticed when it
 * is met, here or later (SqliteError, code SQLITE_CORRUPT): looking for it would read the whole database at each start.
 */
export function openIndex(options: IndexOptions): Index {
  mkdirSync(dirname(options.path), { recursive: true, mode: 0o700 });
  const lock = takeLock(options.path);
  try {
    return openOrRebuild(options, lock);
  } catch (error) {
    lock.close();
    throw error;
  }
}

function openOrRebuild(options: IndexOptions, lock: Database.Database): Index {
  const { path, rebuild = false } = options;
  try {
    return openLocked(options, lock, () => undefined);
  } catch (error) {
    const damage = damageOf(path, error);
    if (!rebuild || damage === undefined) throw damage ?? error;
    return remake(options, lock, damage);
  }
}

function remake(options: IndexOptions, lock: Database.Database, reason: IndexError): Index {
  const { log, path } = options;
  const keptAs = setAside(path);
  log.error({ error: reason, keptAs }, 'the index is made anew from the bucket; what was staged is kept');
  return openLocked(options, lock, (db) => {
    const nowMs = Date.now();
    skipUsedIds(db, nowMs);
    for (const action of salvage(keptAs, db, nowMs).lost) {
      log.error({ action }, 'a rename was under way: the bucket may have both names');
    }
  });
}

/** `prepare` is given the database when it has its tables. */
function openLocked(options: IndexOptions, lock: Database.Database, prepare: (db: Database.Database) => void): Index {
  const { path, log } = options;
  const lastWriteMs = Math.max(...['', '-wal'].map((suffix) => writtenAtMs(path + suffix)));
  const isNew = createPrivate(path);
  const db = new Database(path, { timeout: BUSY_TIMEOUT_MS });
  try {
    db.pragma('journal_mode = WAL');
    db.pragma('synchronous = NORMAL');
    db.pragma('wal_autocheckpoint = 0');
    db.pragma(`cache_size = -${CACHE_KIB}`);
    db.pragma('temp_store = MEMORY');
    if (options.rebuild === true && !isNew) lookThrough(db);
    migrate(db);
    const tables = prepareTables(db);
    prepare(db);
    takeReserve(db, log);
    flushNow(`${path}-wal`);
    // The log is a new file too, after each orderly end.
    flushNow(dirname(path));
    const settings = { path, walLimitBytes: options.walLimitBytes ?? WAL_LIMIT_BYTES };
    // Without the thread commits do its work: slower, but the log stays bounded.
    const checkpointer = new Checkpointer(settings, log, () => db.pragma('wal_autocheckpoint = 1000'));
    return { lastWriteMs, ...assemble(db, lock, tables, new WalSync(path), checkpointer) };
  } catch (error) {
    db.close();
    throw error;
  }
}

/** Throws SqliteError SQLITE_ERROR when the tables are not what the version of the database says. */
function prepareTables(db: Database.Database) {
  return {
    nodes: new SqliteNodes(db, true),
    contents: new SqliteContents(db),
    pending: new SqlitePending(db),
    opens: new SqliteOpens(db),
  };
}

function assemble(
  db: Database.Database,
  lock: Database.Database,
  tables: ReturnType<typeof prepareTables>,
  walSync: WalSync,
  checkpointer: Checkpointer,
): Omit<Index, 'lastWriteMs'> {
  const facts = new SqliteFacts(db);
  const run = inTransaction(db, (body: () => unknown) => body());
  const transaction = <T>(body: () => T) => {
    try {
      return run(body) as T;
    } catch (error) {
      tables.nodes.forgetKept();
      throw error;
    }
  };
  let closing: Promise<void> | undefined;
  const close = async () => {
    await walSync.close();
    await checkpointer.stop();
    db.close();
    lock.close();
  };
  return {
    ...tables,
    getFact: (name) => facts.get(name),
    setFact: (name, value) => facts.set(name, value),
    transaction,
    sync: () => walSync.sync(),
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}

/**
 * One process owns the index. The lock is an open transaction on a database beside it, in the end an fcntl lock: the kernel drops it with the
 * process, however that ends. The index itself cannot be locked like this, since the checkpoint thread has it open too.
 */
function takeLock(path: string): Database.Database {
  createPrivate(`${path}.lock`);
  const lock = new Database(`${path}.lock`, { timeout: 0 });
  try {
    lock.exec('BEGIN EXCLUSIVE');
    return lock;
  } catch (error) {
    lock.close();
    if (!hasCode(error, 'SQLITE_BUSY')) throw error;
    throw new IndexError('busy', `the index ${path} is in use by another tsfs process`, error);
  }
}

/**
 * Names of files are nobody else's business: 0600, which SQLite passes on to `-wal` and `-shm`. Returns whether it was missing. A file that is
 * there is not opened: closing it again would drop the locks that this process may have on it.
 */
function createPrivate(path: string): boolean {
  try {
    closeSync(openSync(path, 'wx', 0o600));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function writtenAtMs(path: string): number {
  return Math.ceil(statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0);
}

/** The log keeps it, however often it begins anew. */
function takeReserve(db: Database.Database, log: Logger): void {
  db.pragma(`journal_size_limit = ${LOG_RESERVE_BYTES}`);
  try {
    reserveLog(`${db.name}-wal`);
  } catch (error) {
    log.warn({ error }, 'the disk of the index is full');
  }
}

/** Once, at the start, when nobody waits yet. */
function flushNow(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
