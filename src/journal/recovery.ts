/** What the last run left in the staging directory, and what may be made of it. */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type FileHandle, link, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { timespecFromMs } from '../base/clock.ts';
import { Extents } from '../base/extents.ts';
import type { NodeId } from '../base/ids.ts';
import type { DurableStaging, StagingRow } from '../index/contract.ts';
import { allRows } from '../index/pages.ts';
import { LOST_AND_FOUND, type Stray } from './contract.ts';
import { DESCRIPTION_SUFFIX, descriptionPath, fingerprint, isDescription, readDescription } from './description.ts';
import { FileStaging, type StagingContext } from './staging.ts';

/** Of the path, in the name of a file of lost+found. */
const TELLING_CHARACTERS = 150;

/** Nothing of it was flushed, uploaded or refused yet. */
export const NEW_STAGING = { error: undefined, durable: undefined, expectedEtag: undefined, isExclusive: false };

const BOOT_FACT = 'journal.bootId';

export async function recoverStagings(
  directory: string,
  bootId: string,
  context: StagingContext,
): Promise<{ stagings: FileStaging[]; strays: Stray[] }> {
  const isSameBoot = context.index.getFact(BOOT_FACT) === bootId;
  const { pending } = context.index;
  const rows = [...allRows(pending.stagings.bind(pending), ({ node }) => node)];
  const stagings: FileStaging[] = [];
  for (const row of rows) {
    const staging = await reopen(directory, row, isSameBoot, context);
    if (staging !== undefined) stagings.push(staging);
  }
  const strays = await sortOut(directory, new Set(rows.map((row) => row.file)), bootId, context);
  context.index.setFact(BOOT_FACT, bootId);
  return { stagings, strays };
}

/** Where the kernel does not tell, each run counts as the first after a restart: that is the careful side. */
export function readBootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return randomUUID();
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
    // Else it was being given away or deleted when the process ended.
    const isOwed = index.nodes.get(row.node)?.dirty === true;
    if (isOwed) log.error({ path, node: row.node }, 'a staging file is gone: changes that were not uploaded are lost');
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
  const { size, mtimeMs } = await file.stat();
  const trusted = isSameBoot ? undefined : row.durable;
  const base = Math.min(trusted?.baseSizeBytes ?? row.baseSizeBytes, size);
  const noted = trusted?.present ?? index.pending.extents(row.node);
  const present = noted
    .filter(({ start }) => start < base)
    .map(({ start, end }) => ({ start, end: Math.min(end, base) }));
  const restored = { ...row, baseSizeBytes: base };
  index.transaction(() => {
    index.pending.putStaging(restored);
    index.pending.setExtents(row.node, present);
  });
  return new FileStaging(context, file, restored, { path, sizeBytes: size, present, leftAt: timespecFromMs(mtimeMs) });
}

export async function adoptStray(
  directory: string,
  stray: Stray,
  node: NodeId,
  context: StagingContext,
): Promise<FileStaging> {
  const { file: name, baseSizeBytes, createdAtMs, present, isExclusive } = stray;
  const path = join(directory, name);
  const row = { node, file: name, baseSizeBytes, createdAtMs, ...NEW_STAGING, isExclusive };
  const file = await open(path, 'r+');
  context.index.transaction(() => {
    context.index.pending.putStaging(row);
    context.index.pending.setExtents(node, present);
  });
  const leftAt = timespecFromMs(stray.mtimeMs);
  return new FileStaging(context, file, row, { path, sizeBytes: stray.sizeBytes, present, leftAt });
}

/** Files that no row knows. */
async function sortOut(
  directory: string,
  known: ReadonlySet<string>,
  bootId: string,
  { log }: StagingContext,
): Promise<Stray[]> {
  const entries = await readdir(directory, { withFileTypes: true });
  const names = new Set(entries.filter((entry) => entry.isFile()).map(({ name }) => name));
  const strays: Stray[] = [];
  for (const name of names) {
    if (known.has(name) || isDescription(name)) continue;
    const path = join(directory, name);
    const found = await examine(path, name, bootId);
    if (found === 'done') await removeWithDescription(path);
    else if (found !== 'unknown') strays.push(found);
    else log.error({ keptAs: await moveToLostAndFound(directory, name) }, 'a file that nobody knows is set aside');
  }
  for (const name of names) {
    const described = name.slice(0, name.indexOf(DESCRIPTION_SUFFIX));
    if (isDescription(name) && (name.endsWith('.new') || !names.has(described))) await rm(join(directory, name));
  }
  return strays;
}

/** `done`: nothing is owed; it was being made when the process ended, or the bucket has it. */
async function examine(path: string, file: string, bootId: string): Promise<Stray | 'done' | 'unknown'> {
  const { size, mtimeMs } = await stat(path);
  const description = await readDescription(path);
  if (description === undefined) return size === 0 ? 'done' : 'unknown';
  const isUnchanged = description.file !== undefined && description.file === (await fingerprint(path));
  if (!description.node.dirty && isUnchanged) return 'done';
  const isSameBoot = description.bootId === bootId;
  // Where something was written since it was described nobody knows; what was synced before is owed all the same.
  const isWholeStory = isSameBoot && (isUnchanged || isCompleteAs(description, size));
  const trusted = isWholeStory ? description : description.durable;
  if (trusted === undefined) return 'unknown';
  const baseSizeBytes = Math.min(trusted.baseSizeBytes, size);
  const isComplete = isCompleteAs(trusted, size);
  const { path: name, node, createdAtMs, isExclusive = false } = description;
  const { present } = trusted;
  const sizes = { sizeBytes: size, baseSizeBytes };
  return { file, path: name, node, isComplete, ...sizes, mtimeMs, present, createdAtMs, isExclusive };
}

function isCompleteAs({ baseSizeBytes, present }: DurableStaging, sizeBytes: number): boolean {
  return new Extents(present).covers(0, Math.min(baseSizeBytes, sizeBytes));
}

async function removeWithDescription(path: string): Promise<void> {
  await rm(path);
  await rm(descriptionPath(path), { force: true });
}

/** With its description, and named by it. */
export function moveToLostAndFound(directory: string, file: string): Promise<string> {
  return keep(directory, file, rename);
}

/** The same of a file that is in use still. */
export function linkToLostAndFound(directory: string, file: string): Promise<string> {
  return keep(directory, file, link);
}

async function keep(directory: string, file: string, place: typeof rename): Promise<string> {
  const target = join(directory, LOST_AND_FOUND);
  await mkdir(target, { recursive: true, mode: 0o700 });
  const description = await readDescription(join(directory, file));
  const name = description === undefined ? file : `${file}-${tellingName(description.path)}`;
  const keptAs = join(target, name);
  if (description !== undefined) await place(descriptionPath(join(directory, file)), descriptionPath(keptAs));
  await place(join(directory, file), keptAs);
  return keptAs;
}

/** The end of the path as one name that any file system takes. */
function tellingName(path: string): string {
  const name = path.replace(/[^A-Za-z0-9._-]+/g, '_');
  return name.slice(-TELLING_CHARACTERS);
}

async function openExisting(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r+');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
