/**
 * What a staging file says of itself, in a small file beside it: enough to bring it to the bucket when the index is lost. Written soon after each
 * change of it, and before an fsync is answered.
 */
import { type FileHandle, open, readFile, rename, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Timespec } from '../base/clock.ts';
import type { Extent } from '../base/extents.ts';
import { KeyedLock } from '../base/locks.ts';
import type { Logger } from '../base/log.ts';
import { removeFile } from '../base/remove-file.ts';
import type { DurableStaging, Index, NodeFields, StagingRow } from '../index/contract.ts';
import { pathOf } from '../index/path.ts';

export const DESCRIPTION_SUFFIX = '.json';
const NEW_SUFFIX = '.new';
const FORMAT = 1;

/** A file that is staged, uploaded and settled sooner needs no description. Also how old one can be. */
const DELAY_MS = 500;

/** The coarsest tick of file times: another change within it may not show. */
const FILE_TICK_MS = 10;
const UNSETTLED = '';
const UNKNOWN = { text: '', isDurable: false };

export interface Description {
  readonly format: typeof FORMAT;
  /** In the mount, without a leading slash. */
  readonly path: string;
  /** The row; its ETag and size are those of the version that the file is laid over. */
  readonly node: Omit<NodeFields, 'parent' | 'name'>;
  readonly baseSizeBytes: number;
  /** What the file holds of the first `baseSizeBytes`. */
  readonly present: readonly Extent[];
  readonly createdAtMs: number;
  readonly durable?: DurableStaging;
  /** It must not replace what somebody else made. */
  readonly isExclusive?: true;
  /** Of the kernel, when it was written. */
  readonly bootId: string;
  /** Size and time of the file then, where it matters whether it was changed since. */
  readonly file?: string;
}

/** `settled`: once nothing was written for a moment, so that later writes show. `durable`: also after a loss of power. */
export type Manner = 'as it is' | 'settled' | 'durable';

/** What is described. */
export interface Describable {
  readonly path: string;
  readonly row: StagingRow;
  readonly isComplete: boolean;
  /** undefined: this process made it. */
  readonly leftAt: Timespec | undefined;
  readonly present: { readonly list: readonly Extent[] };
  /** Its files are being removed, or were. */
  readonly isClosed: boolean;
}

export interface DescriberContext {
  readonly index: Index;
  readonly log: Logger;
  readonly bootId: string;
}

export class Describer {
  readonly #context: DescriberContext;
  readonly #stale = new Set<Describable>();
  /** What each description says now; '' where that is not known. */
  readonly #written = new WeakMap<Describable, { readonly text: string; readonly isDurable: boolean }>();
  /** One change of a description at a time, by path. */
  readonly #locks = new KeyedLock<string>();
  #timer: NodeJS.Timeout | undefined;

  constructor(context: DescriberContext) {
    this.#context = context;
  }

  /** What was written is, or will be, out of date. */
  noteStale(staging: Describable): void {
    this.#stale.add(staging);
    this.#timer ??= setTimeout(() => void this.#sweep(), DELAY_MS).unref();
  }

  /** Brings the description up to date now. A failure is logged: the index knows all of it too. */
  describe(staging: Describable, how: Manner): Promise<void> {
    return this.#locks.run(staging.path, async () => {
      try {
        await this.#write(staging, how);
      } catch (error) {
        this.#context.log.warn({ error, path: staging.path }, 'cannot write down what a staging file is');
      }
    });
  }

  /** To be called when the staging file is gone. */
  forget(staging: Describable): Promise<void> {
    this.#stale.delete(staging);
    return this.#locks.run(staging.path, () => this.#remove(staging));
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#stale.clear();
  }

  async #sweep(): Promise<void> {
    const stale = [...this.#stale];
    this.#stale.clear();
    this.#timer = undefined;
    for (const staging of stale) await this.describe(staging, 'as it is');
  }

  async #write(staging: Describable, how: Manner): Promise<void> {
    this.#stale.delete(staging);
    if (staging.isClosed) return;
    if (how === 'settled' && !staging.isComplete) await sleep(2 * FILE_TICK_MS);
    const description = await this.#compose(staging);
    // Unlinked: it must not come back.
    if (description === undefined) return this.#remove(staging);
    if (description.file === UNSETTLED) this.noteStale(staging);
    const isDurable = how === 'durable';
    const text = JSON.stringify(description);
    const written = this.#written.get(staging);
    if (written?.text === text && (written.isDurable || !isDurable)) return;
    this.#written.set(staging, UNKNOWN);
    await writeWhole(descriptionPath(staging.path), text, isDurable);
    this.#written.set(staging, { text, isDurable });
  }

  async #compose(staging: Describable): Promise<Description | undefined> {
    const file = await fingerprint(staging.path).catch(noFile);
    // It went to the cache in this moment.
    if (file === undefined) return undefined;
    const { index, bootId } = this.#context;
    const { row } = staging;
    const path = pathOf(index.nodes, row.node);
    const fields = index.nodes.get(row.node);
    if (path === undefined || fields === undefined) return undefined;
    const { id, parent, name, ...node } = fields;
    return {
      format: FORMAT,
      path,
      node,
      baseSizeBytes: row.baseSizeBytes,
      present: staging.present.list.filter(({ start }) => start < row.baseSizeBytes),
      createdAtMs: row.createdAtMs,
      ...(row.durable === undefined ? {} : { durable: row.durable }),
      ...(row.isExclusive ? { isExclusive: true } : {}),
      bootId,
      // A complete file with changes is uploaded as it is, whatever was written since.
      ...(fields.dirty && staging.isComplete ? {} : { file }),
    };
  }

  async #remove(staging: Describable): Promise<void> {
    const hasNone = staging.leftAt === undefined && !this.#written.has(staging);
    if (hasNone) return;
    this.#written.delete(staging);
    await removeFile(descriptionPath(staging.path));
  }
}

export function descriptionPath(stagingPath: string): string {
  return stagingPath + DESCRIPTION_SUFFIX;
}

export function isDescription(name: string): boolean {
  return name.endsWith(DESCRIPTION_SUFFIX) || name.endsWith(DESCRIPTION_SUFFIX + NEW_SUFFIX);
}

/** undefined: there is none, or none that can be understood. */
export async function readDescription(stagingPath: string): Promise<Description | undefined> {
  try {
    const value = JSON.parse(await readFile(descriptionPath(stagingPath), 'utf8')) as Description;
    return value.format === FORMAT && typeof value.path === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Size and time of a file; one that was changed just now equals nothing. */
export async function fingerprint(path: string): Promise<string> {
  const { size, mtimeNs } = await stat(path, { bigint: true });
  const isSettled = Math.abs(Date.now() - Number(mtimeNs / 1_000_000n)) > FILE_TICK_MS;
  return isSettled ? `${size} ${mtimeNs}` : UNSETTLED;
}

function noFile(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}

async function writeWhole(path: string, text: string, isDurable: boolean): Promise<void> {
  const file: FileHandle = await open(path + NEW_SUFFIX, 'w', 0o600);
  try {
    await file.writeFile(text);
    if (isDurable) await file.datasync();
  } finally {
    await file.close();
  }
  await rename(path + NEW_SUFFIX, path);
}
