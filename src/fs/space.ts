/** What an object store has no notion of: room, allocation, and holes in files. */
import type { NodeId } from '../base/ids.ts';
import type { FileSystemStatus } from '../kernel/contract.ts';
import type { Contents } from './content.ts';
import type { FsContext } from './context.ts';
import { FsError } from './errors.ts';
import { MAX_NAME_BYTES } from './names.ts';
import type { OpenFiles } from './open-files.ts';
import type { Tree } from './tree.ts';

export interface SpaceParts {
  readonly context: FsContext;
  readonly tree: Tree;
  readonly contents: Contents;
  readonly openFiles: OpenFiles;
}

const STATFS_BLOCK_BYTES = 4096;
const STATFS_FILES = 1_000_000_000;

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
const FALLOC_FL_ZERO_RANGE = 16;
const ZERO_BYTES = 1024 * 1024;

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

export class Space {
  readonly #parts: SpaceParts;

  constructor(parts: SpaceParts) {
    this.#parts = parts;
  }

  status(): FileSystemStatus {
    const blocks = Math.floor(this.#parts.context.options.capacityBytes / STATFS_BLOCK_BYTES);
    return {
      blockSizeBytes: STATFS_BLOCK_BYTES,
      blocks,
      blocksFree: blocks,
      files: STATFS_FILES,
      filesFree: STATFS_FILES,
      maxNameBytes: MAX_NAME_BYTES,
    };
  }

  /** `mode`: the flags of fallocate(2). Holes are zeroes that are written. */
  async allocate(id: NodeId, offset: number, lengthBytes: number, mode: number): Promise<void> {
    const { contents, openFiles } = this.#parts;
    const zeroes = (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) !== 0;
    if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) !== 0) {
      throw new FsError('EOPNOTSUPP');
    }
    const end = offset + lengthBytes;
    await openFiles.use(id, async (file) => {
      const staging = await contents.stage(file);
      await contents.notice(file);
      contents.noteChange(file);
      if (zeroes) {
        const zeroEnd = Math.min(end, staging.sizeBytes);
        for (let at = offset; at < zeroEnd; at += ZERO_BYTES) {
          await staging.write(at, new Uint8Array(Math.min(ZERO_BYTES, zeroEnd - at)));
        }
      }
      if ((mode & FALLOC_FL_KEEP_SIZE) === 0 && end > staging.sizeBytes) await staging.truncate(end);
    });
  }

  /** lseek(2) for data and holes: one extent of data with the hole that every file has at its end, as POSIX allows where holes are not tracked. */
  async seek(id: NodeId, offset: number, whence: number): Promise<number> {
    const { contents, openFiles, tree } = this.#parts;
    const { sizeBytes } = await openFiles.use(id, async (file) => {
      await contents.notice(file);
      const row = tree.row(id);
      return file.live(row) ?? row;
    });
    if (offset >= sizeBytes) throw new FsError('ENXIO');
    if (whence === SEEK_DATA) return offset;
    if (whence === SEEK_HOLE) return sizeBytes;
    throw new FsError('EINVAL');
  }
}
