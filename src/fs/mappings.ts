/**
 * Shared mappings that outlive their descriptors. With passthrough the kernel maps the staging file itself (`backing_file_mmap`), so that
 * RELEASE comes at close(2) while the process goes on writing through its mapping, unseen. Such a file is kept in use until the mapping is gone.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { mapsFile } from '../kernel/descriptors.ts';
import type { OpenFile, OpenFiles } from './open-files.ts';

const LOOK_EVERY_MS = 500;

/**
 * execve(2) closes descriptors while it holds the lock that reading /proc/PID/maps takes (`exec_update_lock`): who waits for that before
 * he answers the flush waits for ever.
 */
const LOOK_LIMIT_MS = 20;

/** So many files are followed at the same time; a mapping beyond that is uploaded as it was at close. */
const MAX_FOLLOWED = 256;

export class Mappings {
  readonly #openFiles: OpenFiles;
  readonly #onGone: (file: OpenFile) => Promise<void>;
  readonly #followed = new Set<OpenFile>();

  /** `onGone` is called when the mapping ended; it handles its errors. */
  constructor(openFiles: OpenFiles, onGone: (file: OpenFile) => Promise<void>) {
    this.#openFiles = openFiles;
    this.#onGone = onGone;
  }

  /** To be called while the process waits for its close(2). */
  async noteFlush(file: OpenFile, pid: number, ino: bigint): Promise<void> {
    if (!file.mayHaveUnseenWrites || this.#followed.has(file) || this.#followed.size >= MAX_FOLLOWED) return;
    this.#followed.add(file);
    file.inFlight += 1;
    const look = mapsFile(pid, ino);
    void this.#follow(file, pid, ino, look);
    await Promise.race([look, sleep(LOOK_LIMIT_MS, undefined, { ref: false })]);
  }

  async #follow(file: OpenFile, pid: number, ino: bigint, look: Promise<boolean>): Promise<void> {
    if (await look) {
      do await sleep(LOOK_EVERY_MS, undefined, { ref: false });
      while (await mapsFile(pid, ino));
      await this.#onGone(file);
    }
    this.#followed.delete(file);
    this.#openFiles.endUse(file);
  }
}
