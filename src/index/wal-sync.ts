import { closeSync, fdatasync, openSync } from 'node:fs';
import { promisify } from 'node:util';

const datasync = promisify(fdatasync);

/**
 * Makes commits durable off the JavaScript thread: fdatasync of the write-ahead log. A frame that is in the log when the call comes is
 * flushed by it; one that a checkpoint has moved meanwhile was flushed before the log was reused (SQLite syncs the log, then
 * the database, and only then lets the log start over).
 *
 * The descriptor is our own. That is safe for the log and for nothing else: SQLite holds POSIX locks on the database and on the `-shm` file,
 * and closing any descriptor of those would drop them.
 */
export class WalSync {
  readonly #fd: number;
  #running: Promise<void> | undefined;
  #queued: Promise<void> | undefined;

  /** The database must be open in WAL mode: then the log exists, and stays the same file until it is closed. */
  constructor(databasePath: string) {
    this.#fd = openSync(`${databasePath}-wal`, 'r');
  }

  /** A flush that runs already may have begun before the caller's commit: the next one is shared by all who come meanwhile. */
  sync(): Promise<void> {
    if (this.#running === undefined) {
      this.#running = this.#flush();
      return this.#running;
    }
    this.#queued ??= this.#running.then(
      () => this.#advance(),
      () => this.#advance(),
    );
    return this.#queued;
  }

  async close(): Promise<void> {
    await (this.#queued ?? this.#running)?.catch(() => {}); // Told to those who asked.
    closeSync(this.#fd);
  }

  #advance(): Promise<void> {
    this.#queued = undefined;
    this.#running = this.#flush();
    return this.#running;
  }

  async #flush(): Promise<void> {
    try {
      await datasync(this.#fd);
    } finally {
      if (this.#queued === undefined) this.#running = undefined;
    }
  }
}
