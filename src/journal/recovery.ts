/** What the last run left in the staging directory, and what may be made of it. */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { INDEX_BATCH, type StagingRow } from '../index/contract.ts';
import { LOST_AND_FOUND } from './contract.ts';
import { FileStaging, type StagingContext } from './staging.ts';

/** Of files that were given away: their content is in the bucket. */
export const DETACHED_SUFFIX = '.detached';

const BOOT_FACT = 'journal.bootId';

export async function recoverStagings(
  directory: string,
  bootId: string,
  context: StagingContext,
): Promise<FileStaging[]> {
  const isSameBoot = context.index.getFact(BOOT_FACT) === bootId;
  const rows = allRows(context);
  const stagings: FileStaging[] = [];
  for (const row of rows) {
    const staging = await reopen(directory, row, isSameBoot, context);
    if (staging !== undefined) stagings.push(staging);
  }
  await tidy(directory, new Set(rows.map((row) => row.file)), context);
  context.index.setFact(BOOT_FACT, bootId);
  return stagings;
}

/** Where the kernel does not tell, each run counts as the first after a restart: that is the careful side. */
export function readBootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return randomUUID();
  }
}

function allRows({ index }: StagingContext): StagingRow[] {
  const rows: StagingRow[] = [];
  for (;;) {
    const page = index.pending.stagings(rows.at(-1)?.node ?? 0, INDEX_BATCH);
    rows.push(...page);
    if (page.length < INDEX_BATCH) return rows;
  }
}

async function reopen(
  directory: string,
  row: StagingRow,
  isSameBoot: boolean,
  context: StagingContext,
): Promise<FileStaging | undefined> {
  const { index, log } = context;
  const path = join(directory, row.file);
  const file = await openExisting(path);
  if (file === undefined) {
    log.error({ path, node: row.node }, 'a staging file is gone: changes that were not uploaded are lost');
    index.pending.deleteStaging(row.node);
    return undefined;
  }
  if (!isSameBoot && row.durable === undefined) {
    await file.close();
    const keptAs = await moveToLostAndFound(directory, row.file);
    log.error({ keptAs, node: row.node }, 'a file that was being written when the machine went down is set aside');
    index.pending.deleteStaging(row.node);
    return undefined;
  }
  return restore(file, path, row, isSameBoot, context);
}

/** The page cache outlives this process, but not the machine: after a restart only what was flushed is believed. */
async function restore(
  file: FileHandle,
  path: string,
  row: StagingRow,
  isSameBoot: boolean,
  context: StagingContext,
): Promise<FileStaging> {
  const { index } = context;
  const { size } = await file.stat();
  const trusted = isSameBoot ? undefined : row.durable;
  const base = Math.min(trusted?.baseSizeBytes ?? row.baseSizeBytes, size);
  const present = trusted?.present ?? index.pending.extents(row.node);
  const restored = { ...row, baseSizeBytes: base };
  index.transaction(() => {
    index.pending.putStaging(restored);
    index.pending.setExtents(row.node, present);
  });
  return new FileStaging(context, file, restored, { path, sizeBytes: size, present });
}

/** Files that no row knows. Empty ones were being made when the process ended. */
async function tidy(directory: string, known: ReadonlySet<string>, { log }: StagingContext): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    if (!entry.isFile() || known.has(entry.name)) continue;
    const path = join(directory, entry.name);
    if (entry.name.endsWith(DETACHED_SUFFIX) || (await stat(path)).size === 0) {
      await unlink(path);
    } else {
      log.warn({ keptAs: await moveToLostAndFound(directory, entry.name) }, 'a file that nobody knows is set aside');
    }
  }
}

async function moveToLostAndFound(directory: string, name: string): Promise<string> {
  const keptAs = join(directory, LOST_AND_FOUND, name);
  await mkdir(join(directory, LOST_AND_FOUND), { recursive: true, mode: 0o700 });
  await rename(join(directory, name), keptAs);
  return keptAs;
}

async function openExisting(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r+');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
