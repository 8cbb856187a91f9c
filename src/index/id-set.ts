import Database from 'better-sqlite3';

/** A set of ids that may be larger than memory: on disk, in a file without a name. */
export class IdSet {
  readonly #db = new Database('');
  readonly #add = this.#prepare('INSERT OR IGNORE INTO ids VALUES (?)');
  readonly #has = this.#prepare('SELECT 1 FROM ids WHERE id = ?');

  add(id: number): void {
    this.#add.run(id);
  }

  has(id: number): boolean {
    return this.#has.get(id) !== undefined;
  }

  close(): void {
    this.#db.close();
  }

  #prepare(sql: string): Database.Statement<[number]> {
    this.#db.exec('CREATE TABLE IF NOT EXISTS ids (id INTEGER PRIMARY KEY)');
    return this.#db.prepare(sql);
  }
}
