/**
 * Runs in a worker thread: moves committed pages from the write-ahead log into the database, with the waiting for the disk that this takes.
 * Talks to `checkpoint.ts`, which starts it.
 */
import { statSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import Database from 'better-sqlite3';
import { reservePages } from './reserve.ts';

export interface CheckpointSettings {
  readonly path: string;
  readonly walLimitBytes: number;
}

/** What the worker says: the message of its last error, or undefined when all is well again. */
export interface CheckpointReport {
  readonly error: string | undefined;
}

const LOOK_EVERY_MS = 250;
const CHECKPOINT_EVERY_MS = 2000;
const MAX_ROUNDS = 4;
const FEW_FRAMES = 500;

const { path, walLimitBytes } = workerData as CheckpointSettings;
const db = new Database(path, { timeout: 1000 });
db.pragma('synchronous = NORMAL');
db.pragma('wal_autocheckpoint = 0');
db.pragma('cache_size = -1024');

let lastCheckpointMs = performance.now();
let lastError: string | undefined;

/** PASSIVE never holds up the other connection. Returns how many frames it left in the log. */
function checkpointQuietly(): number {
  const [result] = db.pragma('wal_checkpoint(PASSIVE)') as [{ log: number; checkpointed: number }];
  return result.log - result.checkpointed;
}

/**
 * PASSIVE empties the log only when nobody writes meanwhile, so one that is past its limit is made to begin anew by RESTART, and the next commit cuts
 * it back. RESTART holds the write lock while it moves what is left: little, after some rounds of PASSIVE, unless the other side writes faster than
 * the disk. Then it has to wait.
 */
function checkpoint(): void {
  const walBytes = statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  const isDue = performance.now() - lastCheckpointMs >= CHECKPOINT_EVERY_MS;
  if (walBytes <= walLimitBytes && !isDue) return;
  let framesLeft = checkpointQuietly();
  if (walBytes > walLimitBytes) {
    for (let round = 1; round < MAX_ROUNDS && framesLeft > FEW_FRAMES; round += 1) framesLeft = checkpointQuietly();
    db.pragma('wal_checkpoint(RESTART)');
  }
  reservePages(db);
  lastCheckpointMs = performance.now();
}

function look(): void {
  let error: string | undefined;
  try {
    checkpoint();
  } catch (failure) {
    error = failure instanceof Error ? failure.message : String(failure);
  }
  if (error === lastError) return;
  lastError = error;
  parentPort?.postMessage({ error } satisfies CheckpointReport);
}

const timer = setInterval(look, LOOK_EVERY_MS);
parentPort?.once('message', () => {
  clearInterval(timer);
  look();
  db.close();
  parentPort?.close();
});
