/** Tables and their migrations. A migration is never edited once released: a new one is appended. */
import type { Database } from 'better-sqlite3';
import { FIRST_NODE_ID, ROOT_NODE_ID } from '../base/ids.ts';
import { IndexError } from './contract.ts';
import { inTransaction } from './transaction.ts';

/**
 * Column order matters: what every lookup needs comes first, long and rare values last, so that they spill to overflow pages alone.
 * `nodes_by_name` treats NULL parents (detached nodes) as distinct. `nodes_by_parent` ends with the rowid, as every SQLite index does:
 * children in order of id are one range of it. Counters are kept by triggers, because count(*) and sum() walk the whole table.
 */
const VERSION_1 = `
  CREATE TABLE nodes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    parent INTEGER,
    name TEXT NOT NULL,
    kind INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL DEFAULT 0,
    mode INTEGER,
    uid INTEGER,
    gid INTEGER,
    mtime_sec INTEGER NOT NULL DEFAULT 0,
    mtime_nsec INTEGER NOT NULL DEFAULT 0,
    ctime_sec INTEGER,
    ctime_nsec INTEGER,
    atime_sec INTEGER,
    atime_nsec INTEGER,
    complete INTEGER NOT NULL DEFAULT 0,
    dirty INTEGER NOT NULL DEFAULT 0,
    validated_at_ms INTEGER NOT NULL DEFAULT 0,
    listed_at_ms INTEGER NOT NULL DEFAULT 0,
    last_modified_ms INTEGER,
    content INTEGER,
    etag TEXT,
    marker TEXT,
    md5 TEXT,
    target TEXT,
    extras TEXT
  ) STRICT;
  CREATE UNIQUE INDEX nodes_by_name ON nodes (parent, name);
  CREATE INDEX nodes_by_parent ON nodes (parent);
  CREATE INDEX nodes_dirty ON nodes (id) WHERE dirty = 1;

  CREATE TABLE contents (
    id INTEGER PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    present_bytes INTEGER NOT NULL,
    used_at_ms INTEGER NOT NULL,
    checksums BLOB NOT NULL
  ) STRICT;
  CREATE INDEX contents_by_use ON contents (used_at_ms);

  CREATE TABLE stagings (
    node INTEGER PRIMARY KEY,
    file TEXT NOT NULL,
    base_size_bytes INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    error TEXT,
    durable TEXT
  ) STRICT;
  CREATE TABLE staging_extents (
    node INTEGER NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    PRIMARY KEY (node, start)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE intents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    action TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    error TEXT
  ) STRICT;

  CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

  CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  INSERT INTO counters VALUES ('nodes', 0), ('content_bytes', 0), ('next_content', 1);
  CREATE TRIGGER nodes_inserted AFTER INSERT ON nodes BEGIN
    UPDATE counters SET value = value + 1 WHERE name = 'nodes';
  END;
  CREATE TRIGGER nodes_deleted AFTER DELETE ON nodes BEGIN
    UPDATE counters SET value = value - 1 WHERE name = 'nodes';
  END;
  CREATE TRIGGER contents_inserted AFTER INSERT ON contents BEGIN
    UPDATE counters SET value = value + new.present_bytes WHERE name = 'content_bytes';
  END;
  CREATE TRIGGER contents_updated AFTER UPDATE OF present_bytes ON contents BEGIN
    UPDATE counters SET value = value + new.present_bytes - old.present_bytes WHERE name = 'content_bytes';
  END;
  CREATE TRIGGER contents_deleted AFTER DELETE ON contents BEGIN
    UPDATE counters SET value = value - old.present_bytes WHERE name = 'content_bytes';
  END;

  INSERT INTO nodes (id, parent, name, kind) VALUES (${ROOT_NODE_ID}, NULL, '', 1);
  UPDATE sqlite_sequence SET seq = ${FIRST_NODE_ID - 1} WHERE name = 'nodes';
`;

/** Handles are those that the kernel was given. */
const VERSION_2 = `
  CREATE TABLE opens (
    handle INTEGER PRIMARY KEY,
    node INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    backing_id INTEGER NOT NULL
  ) STRICT;
`;

/**
 * Renames say how far they got. Those that version 2 began do not, and the bucket alone cannot tell: their names stay as the bucket has
 * them. `expected_etag`: of the upload that is under way.
 */
const VERSION_3 = `
  DELETE FROM intents WHERE json_extract(action, '$.kind') IN ('rename', 'renameTree');
  ALTER TABLE stagings ADD COLUMN expected_etag TEXT;
`;

/** Empty but for a moment: see `reserve.ts`. */
const VERSION_4 = 'CREATE TABLE reserve (bytes BLOB NOT NULL) STRICT;';

/** 0: not known, as of opens that an earlier version noted. */
const VERSION_5 = 'ALTER TABLE opens ADD COLUMN backing_inode INTEGER NOT NULL DEFAULT 0;';

/** Files that were made with O_EXCL say so until they are in the bucket. */
const VERSION_6 = 'ALTER TABLE stagings ADD COLUMN exclusive INTEGER NOT NULL DEFAULT 0;';

export const MIGRATIONS: readonly string[] = [VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, VERSION_6];

/** Brings the database to the newest version, each step all or nothing. */
export function migrate(db: Database, migrations: readonly string[] = MIGRATIONS): void {
  const version = Number(db.pragma('user_version', { simple: true }));
  if (version > migrations.length) {
    throw new IndexError(
      'newer',
      `the index ${db.name} has format ${version}, this tsfs knows formats up to ${migrations.length}: use the newer tsfs, or move the file away`,
    );
  }
  for (let next = version; next < migrations.length; next += 1) {
    inTransaction(db, () => {
      db.exec(migrations[next] as string);
      db.pragma(`user_version = ${next + 1}`);
    })();
  }
}
