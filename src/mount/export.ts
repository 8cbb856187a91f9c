/** Staged files as ordinary files, for who cannot or will not wait for the bucket. */
import { constants } from 'node:fs';
import { copyFile, type FileHandle, mkdir, open, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Extent } from '../base/extents.ts';
import type { NodeRow } from '../index/contract.ts';
import { allRows } from '../index/pages.ts';
import { pathOf } from '../index/path.ts';
import { LOST_AND_FOUND, type Staging } from '../journal/contract.ts';
import type { MountConfig } from './config.ts';
import { MountError, systemCode } from './errors.ts';
import { type Layers, stagingDirectory } from './layers.ts';
import { listKept } from './pending.ts';

export interface ExportedFile {
  /** Below the directory. */
  readonly path: string;
  readonly sizeBytes: number;
  /** Parts that nobody changed and that the bucket, which has them, did not give: zeros here. */
  readonly missing: readonly Extent[];
}

export interface ExportTarget {
  /** Absolute. Made when missing; must be empty. */
  readonly directory: string;
  onFile(file: ExportedFile): void;
}

const PIECE_BYTES = 1024 * 1024;
const CALLER = { uid: 0, gid: 0, pid: process.pid, signal: new AbortController().signal, isResent: false };

/** After so many pieces that could not be had the bucket is not asked any more. */
const FAILURES_MAX = 3;

export async function exportPending(config: MountConfig, layers: Layers, target: ExportTarget): Promise<void> {
  await makeEmpty(target.directory);
  const exporter = new Exporter(layers, target);
  const { nodes } = layers.index;
  for (const row of allRows(nodes.dirty.bind(nodes), ({ id }) => id)) await exporter.exportNode(row);
  await exportKept(stagingDirectory(config), target);
}

async function makeEmpty(directory: string): Promise<void> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    if ((await readdir(directory)).length > 0) throw new MountError(`The directory ${directory} is not empty.`);
  } catch (error) {
    if (error instanceof MountError) throw error;
    throw new MountError(`The directory ${directory} cannot be used (${systemCode(error) ?? 'unknown reason'}).`);
  }
}

async function exportKept(staging: string, target: ExportTarget): Promise<void> {
  const directory = join(target.directory, LOST_AND_FOUND);
  for await (const { path: name, sizeBytes = 0 } of listKept(staging)) {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await copyFile(join(staging, LOST_AND_FOUND, name), join(directory, name), constants.COPYFILE_FICLONE);
    target.onFile({ path: `${LOST_AND_FOUND}/${name}`, sizeBytes, missing: [] });
  }
}

class Exporter {
  readonly #layers: Layers;
  readonly #target: ExportTarget;
  #failures = 0;

  constructor(layers: Layers, target: ExportTarget) {
    this.#layers = layers;
    this.#target = target;
  }

  async exportNode(row: NodeRow): Promise<void> {
    const { index, journal } = this.#layers;
    const path = pathOf(index.nodes, row.id);
    const staging = journal.find(row.id);
    if (path === undefined || staging === undefined) return;
    const missing = await this.#fetch(row, staging);
    const copy = join(this.#target.directory, path);
    await mkdir(dirname(copy), { recursive: true, mode: 0o700 });
    await copyFile(staging.path, copy, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    await this.#giveAttributes(copy, row);
    this.#target.onFile({ path, sizeBytes: staging.sizeBytes, missing });
  }

  /** Reading a piece brings it into the staging file. Resolves with what could not be had. */
  async #fetch(row: NodeRow, staging: Staging): Promise<Extent[]> {
    for (const { offset, lengthBytes } of staging.missing(0, staging.sizeBytes)) {
      const end = offset + lengthBytes;
      for (let position = offset; position < end && this.#failures < FAILURES_MAX; position += PIECE_BYTES) {
        await this.#fetchPiece(row, position, Math.min(PIECE_BYTES, end - position));
      }
    }
    const missing = staging.missing(0, staging.sizeBytes);
    return missing.map(({ offset, lengthBytes }) => ({ start: offset, end: offset + lengthBytes }));
  }

  async #fetchPiece(row: NodeRow, offset: number, lengthBytes: number): Promise<void> {
    try {
      const reply = await this.#layers.fileSystem.read(CALLER, row.id, offset, lengthBytes);
      if (reply.kind === 'file') reply.release();
      this.#failures = 0;
    } catch {
      // What is missing is told.
      this.#failures += 1;
    }
  }

  async #giveAttributes(path: string, row: NodeRow): Promise<void> {
    const file: FileHandle = await open(path, 'r+');
    try {
      const time = row.mtime.sec + row.mtime.nsec / 1e9;
      if (row.mode !== undefined) await file.chmod(row.mode & 0o777);
      await file.utimes(time, time);
    } finally {
      await file.close();
    }
  }
}
