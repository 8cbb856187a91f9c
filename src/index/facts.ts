import type { Database, Statement } from 'better-sqlite3';

export class SqliteFacts {
  readonly #get: Statement<[string], string>;
  readonly #set: Statement<[string, string]>;

  constructor(db: Database) {
    this.#get = db.prepare<[string], string>('SELECT value FROM facts WHERE name = ?').pluck();
    this.#set = db.prepare(`
      INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`);
  }

  get(name: string): string | undefined {
    return this.#get.get(name);
  }

  set(name: string, value: string): void {
    this.#set.run(name, value);
  }
}
