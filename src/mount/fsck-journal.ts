/** What is staged against what the index knows of it. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { StagingRow } from '../index/contract.ts';
import { allRows } from '../index/pages.ts';
import { pathOf } from '../index/path.ts';
import { isDescription, readDescription } from '../journal/description.ts';
import { systemCode } from './errors.ts';
import type { FsckScene } from './fsck-scene.ts';
import { stagingDirectory } from './layers.ts';
import { listKept } from './pending.ts';

/** Repairing is what each mount does at its start. */
export async function checkJournal(scene: FsckScene): Promise<void> {
  scene.onProgress('looking through what is staged');
  const known = await checkRows(scene);
  await checkFiles(scene, known);
  checkUnstaged(scene);
  if (scene.isRepairing) await scene.layers.fileSystem.recover(undefined);
  for await (const { path, sizeBytes } of listKept(stagingDirectory(scene.config))) {
    scene.onFinding({ area: 'journal', text: `lost+found has ${path} (${sizeBytes} bytes)`, repair: undefined });
  }
}

async function checkRows(scene: FsckScene): Promise<Set<string>> {
  const { pending } = scene.layers.index;
  const known = new Set<string>();
  for (const row of allRows(pending.stagings.bind(pending), ({ node }) => node)) {
    known.add(row.file);
    await checkRow(scene, row);
  }
  return known;
}

async function checkRow(scene: FsckScene, row: StagingRow): Promise<void> {
  const { index } = scene.layers;
  const node = index.nodes.get(row.node);
  // Told when the index was looked through.
  if (node === undefined) return;
  const path = pathOf(index.nodes, row.node);
  const sizeBytes = await sizeOf(join(stagingDirectory(scene.config), row.file));
  if (sizeBytes === undefined) {
    // It was being given to the cache: the bucket has the content.
    if (!node.dirty) return;
    const repair = 'forgets the changes, as they are lost; the file is what the bucket has';
    scene.onFinding({ area: 'journal', path, text: `the staged content ${row.file} is gone`, repair });
    return;
  }
  const baseSizeBytes = Math.min(row.baseSizeBytes, sizeBytes);
  const outside = index.pending.extents(row.node).filter(({ end }) => end > baseSizeBytes);
  if (outside.length === 0 && row.baseSizeBytes <= sizeBytes) return;
  const text = `the staged content ends at ${sizeBytes} bytes, but is noted beyond that`;
  scene.onFinding({ area: 'journal', path, text, repair: 'goes by the file' });
}

/** The number of staging files is bounded by what is pending. */
async function checkFiles(scene: FsckScene, known: ReadonlySet<string>): Promise<void> {
  const directory = stagingDirectory(scene.config);
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const { name } = entry;
    if (!entry.isFile() || known.has(name) || isDescription(name)) continue;
    const description = await readDescription(join(directory, name));
    const text = `the index knows nothing of the staged content ${name}`;
    const repair =
      description === undefined
        ? 'moves it to lost+found'
        : 'brings it back under its name, or moves it to lost+found when the bucket has another version now';
    scene.onFinding({ area: 'journal', path: description?.path, text, repair });
  }
}

/** What a crash leaves as a rule is no damage, and found and done with by the next mount. */
function checkUnstaged(scene: FsckScene): void {
  const { index } = scene.layers;
  for (const row of allRows(index.nodes.dirty.bind(index.nodes), ({ id }) => id)) {
    if (index.pending.getStaging(row.id) !== undefined) continue;
    const path = pathOf(index.nodes, row.id);
    const text = 'it counts as changed, but nothing of the changes is staged';
    scene.onFinding({ area: 'journal', path, text, repair: 'the file is what the bucket has' });
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
