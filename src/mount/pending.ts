/** What the bucket does not have yet, as `tsfs pending` tells it: from the index and the staging directory, with or without a daemon. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Index, IntentRow, StagingRow } from '../index/contract.ts';
import { allRows } from '../index/pages.ts';
import { pathOf } from '../index/path.ts';
import { LOST_AND_FOUND } from '../journal/contract.ts';
import { isDescription, readDescription } from '../journal/description.ts';
import { systemCode } from './errors.ts';

export interface PendingChange {
  /** `upload`: content and attributes of a file. `kept`: a file of lost+found, which is not sent by itself. Others: what was begun with names. */
  readonly kind: string;
  /** In the mount, without a leading slash. Of a `kept` file: its name in lost+found. */
  readonly path: string;
  /** Of a rename: the new path. */
  readonly toPath?: string | undefined;
  /** Of a `kept` file: what it was in the mount, if that is known. */
  readonly wasPath?: string | undefined;
  readonly sizeBytes?: number | undefined;
  readonly sinceMs: number;
  /** What the last attempt failed with. */
  readonly error?: string | undefined;
}

export interface PendingList {
  /** The first so many. */
  readonly changes: readonly PendingChange[];
  /** All. */
  readonly count: number;
}

/** So many are told; all are counted. */
const TOLD_MAX = 10_000;

export async function collect(changes: AsyncIterable<PendingChange> | Iterable<PendingChange>): Promise<PendingList> {
  const told: PendingChange[] = [];
  let count = 0;
  for await (const change of changes) {
    count += 1;
    if (count <= TOLD_MAX) told.push(change);
  }
  return { changes: told, count };
}

export interface PendingPlace {
  readonly index: Pick<Index, 'nodes' | 'pending'>;
  readonly stagingDirectory: string;
  /** '' or `a/b/`: what keys begin with. */
  readonly prefix: string;
}

/** In no particular order; what appears or goes meanwhile may be told or not. */
export async function* listPending(place: PendingPlace): AsyncGenerator<PendingChange> {
  const { pending } = place.index;
  for (const row of allRows(pending.stagings.bind(pending), ({ node }) => node)) {
    const change = await uploadOf(place, row);
    if (change !== undefined) yield change;
  }
  for (const intent of allRows(pending.intents.bind(pending), ({ id }) => id)) yield intentChange(place.prefix, intent);
  yield* listKept(place.stagingDirectory);
}

/** What was set aside. */
export async function* listKept(stagingDirectory: string): AsyncGenerator<PendingChange> {
  const directory = join(stagingDirectory, LOST_AND_FOUND);
  for (const name of await namesIn(directory)) {
    if (isDescription(name)) continue;
    const path = join(directory, name);
    const { size, mtimeMs } = await stat(path);
    const wasPath = (await readDescription(path))?.path;
    yield { kind: 'kept', path: name, wasPath, sizeBytes: size, sinceMs: Math.floor(mtimeMs) };
  }
}

/** undefined: nothing is owed. The file is open still, was uploaded, and may change; or it lost its name. */
async function uploadOf(place: PendingPlace, row: StagingRow): Promise<PendingChange | undefined> {
  const { nodes } = place.index;
  const path = pathOf(nodes, row.node);
  if (path === undefined || nodes.get(row.node)?.dirty !== true) return undefined;
  const size = await stat(join(place.stagingDirectory, row.file)).then(
    (found) => found.size,
    () => undefined, // Uploaded since the row was read.
  );
  return { kind: 'upload', path, sizeBytes: size, sinceMs: row.createdAtMs, error: row.error };
}

function intentChange(prefix: string, { action, createdAtMs, error }: IntentRow): PendingChange {
  const inMount = (key: string) => (key.startsWith(prefix) ? key.slice(prefix.length) : key);
  const base = { kind: action.kind, sinceMs: createdAtMs, error };
  if ('fromKey' in action) return { ...base, path: inMount(action.fromKey), toPath: inMount(action.toKey) };
  if ('fromPrefix' in action) return { ...base, path: inMount(action.fromPrefix), toPath: inMount(action.toPrefix) };
  return { ...base, path: inMount(action.key) };
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}
