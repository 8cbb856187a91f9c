/** Looks through an index for what cannot be true, for `tsfs fsck`. */
import Database from 'better-sqlite3';
import { FIRST_NODE_ID } from '../base/ids.ts';
import { damageOf } from './damage.ts';
import { inTransaction } from './transaction.ts';

/** Of each kind so many are told; all are counted, and mended. */
const TOLD_MAX = 100;

export interface IndexFinding {
  /** In words, without a full stop. */
  readonly text: string;
  /** What mending does, or did. */
  readonly repair: string;
}

interface Check {
  /** Yields one line for each thing that is wrong. */
  readonly find: string;
  readonly mend: readonly string[];
  readonly repair: string;
}

const KIND_DIRECTORY = 1;

const CHECKS: readonly Check[] = [
  {
    find: `SELECT 'the name ' || quote(name) || ' is in a directory that is not there' FROM nodes
      WHERE parent IS NOT NULL AND parent NOT IN (SELECT id FROM nodes WHERE kind = ${KIND_DIRECTORY})`,
    // Changes of what has no name are dropped: without their row they are kept, and tell themselves what they are.
    mend: [
      `DELETE FROM stagings WHERE node IN (SELECT id FROM nodes
        WHERE parent NOT IN (SELECT id FROM nodes WHERE kind = ${KIND_DIRECTORY}))`,
      `UPDATE nodes SET parent = NULL WHERE parent NOT IN (SELECT id FROM nodes WHERE kind = ${KIND_DIRECTORY})`,
    ],
    repair: 'forgets the name; the bucket is asked again',
  },
  {
    find: `SELECT 'changes of node ' || node || ' are noted, which is not there' FROM stagings
      WHERE node NOT IN (SELECT id FROM nodes)`,
    mend: ['DELETE FROM stagings WHERE node NOT IN (SELECT id FROM nodes)'],
    repair: 'brings the file back by what it says itself, or keeps it in lost+found',
  },
  {
    find: `SELECT 'changed bytes of node ' || node || ' are noted, which has no changes' FROM staging_extents
      WHERE node NOT IN (SELECT node FROM stagings) GROUP BY node`,
    mend: ['DELETE FROM staging_extents WHERE node NOT IN (SELECT node FROM stagings)'],
    repair: 'forgets them',
  },
  {
    find: `SELECT 'changed bytes ' || start || '-' || end || ' of node ' || node || ' are none'
      FROM staging_extents WHERE start < 0 OR end <= start`,
    mend: ['DELETE FROM staging_extents WHERE start < 0 OR end <= start'],
    repair: 'forgets them',
  },
  {
    find: `SELECT 'a rename of node ' || json_extract(action, '$.node') || ' was begun, which is not there' FROM intents
      WHERE json_extract(action, '$.node') NOT IN (SELECT id FROM nodes)`,
    mend: [`DELETE FROM intents WHERE json_extract(action, '$.node') NOT IN (SELECT id FROM nodes)`],
    repair: 'leaves the bucket as it is, which may be with both names',
  },
  {
    find: `SELECT 'the size of ' || quote(name) || ' is ' || size_bytes FROM nodes WHERE size_bytes < 0`,
    mend: [
      `DELETE FROM nodes WHERE size_bytes < 0 AND kind <> ${KIND_DIRECTORY} AND dirty = 0`,
      'UPDATE nodes SET size_bytes = 0 WHERE size_bytes < 0',
    ],
    repair: 'forgets the name; the bucket is asked again',
  },
  {
    find: `SELECT 'the number of names is noted as ' || value FROM counters
      WHERE name = 'nodes' AND value <> (SELECT count(*) FROM nodes)`,
    mend: [`UPDATE counters SET value = (SELECT count(*) FROM nodes) WHERE name = 'nodes'`],
    repair: 'counts them',
  },
  {
    find: `SELECT 'the size of the cache is noted as ' || value || ' bytes' FROM counters
      WHERE name = 'content_bytes' AND value <> (SELECT coalesce(sum(present_bytes), 0) FROM contents)`,
    mend: [
      `UPDATE counters SET value = (SELECT coalesce(sum(present_bytes), 0) FROM contents) WHERE name = 'content_bytes'`,
    ],
    repair: 'counts again',
  },
  {
    find: `SELECT 'new nodes would get numbers that are in use' FROM sqlite_sequence
      WHERE name = 'nodes' AND seq < (SELECT max(id, ${FIRST_NODE_ID - 1}) FROM nodes ORDER BY id DESC LIMIT 1)`,
    mend: [`UPDATE sqlite_sequence SET seq = (SELECT max(id) FROM nodes) WHERE name = 'nodes'`],
    repair: 'begins above them',
  },
];

/**
 * What SQLite itself finds wrong with the file, in its words; [] when all is well. Reads all of it, and takes seconds for millions of names.
 * Throws SqliteError when the file cannot be opened at all for other reasons than damage.
 */
export function integrityOf(path: string): string[] {
  let db: Database.Database | undefined;
  try {
    db = new Database(path, { readonly: true, fileMustExist: true });
    const lines = db.pragma(`integrity_check(${TOLD_MAX})`) as { readonly integrity_check: string }[];
    return lines.map((line) => line.integrity_check).filter((text) => text !== 'ok');
  } catch (error) {
    const damage = damageOf(path, error);
    if (damage === undefined) throw error;
    return [String((error as Error).message)];
  } finally {
    db?.close();
  }
}

/** References within the index that lead nowhere, and sums that are wrong. The caller has the lock; the file is sound as such. */
export function checkReferences(path: string, isMending: boolean): IndexFinding[] {
  const db = new Database(path, { readonly: !isMending, fileMustExist: true });
  try {
    return CHECKS.flatMap((check) => {
      const found = tell(db, check);
      if (isMending && found.length > 0) {
        inTransaction(db, () => {
          for (const statement of check.mend) db.exec(statement);
        })();
      }
      return found;
    });
  } finally {
    db.close();
  }
}

function tell(db: Database.Database, { find, repair }: Check): IndexFinding[] {
  const found: IndexFinding[] = [];
  let count = 0;
  for (const text of db.prepare<[], string>(find).pluck().iterate()) {
    count += 1;
    if (count <= TOLD_MAX) found.push({ text, repair });
  }
  if (count > TOLD_MAX) found.push({ text: `${count - TOLD_MAX} more of this kind`, repair });
  return found;
}
