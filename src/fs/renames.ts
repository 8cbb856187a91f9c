/**
 * Renames. An object store has none: it takes a COPY and a DELETE, for a directory of everything below. An intent says how far it got, and at each
 * instant either name has all of it:
 * - While it is copied, the old name does. A move of a directory that fails, or that ends with the process, is taken back: its source is whole,
 *   and only copies are deleted, while going on could overwrite what others put under the new name since. A single COPY is done or not,
 *   and may have replaced what the new name had, so after a crash one file is moved again.
 * - Once all is copied, one transaction of the index gives the new name, and turns the intent into the removal of the originals, which goes on in the
 *   background until it is done. They are gone for everybody here from then on.
 * While the mount goes on with another worker, the kernel sends the request again, and it finds its intent.
 */
import type { NodeId } from '../base/ids.ts';
import type { IntentRow } from '../index/contract.ts';
import { FsError } from './errors.ts';
import { DirectoryMoves } from './move-directory.ts';
import { FileMoves } from './move-file.ts';
import { type Begun, type DirectoryMove, type FileMove, Moves } from './moves.ts';
import type { NamespaceParts } from './namespace.ts';

export interface RenameManner {
  readonly noReplace: boolean;
  /** See `resent.ts`. */
  readonly isResent: boolean;
}

/** Longest time until all requests that an earlier process left have come again. */
const RESEND_LIMIT_MS = 30_000;

export class Renames {
  readonly #parts: NamespaceParts;
  readonly #moves: Moves;
  readonly #files: FileMoves;
  readonly #directories: DirectoryMoves;
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: NamespaceParts) {
    this.#parts = parts;
    this.#moves = new Moves(parts);
    this.#files = new FileMoves(this.#moves);
    this.#directories = new DirectoryMoves(this.#moves);
  }

  /**
   * Ends what an earlier process had begun, in the background; to be called before the first request. `continues`: the mount goes on, so
   * what was being copied comes again.
   */
  async recover(continues: boolean): Promise<void> {
    const { journal, mover } = this.#parts.context;
    const lists = new Set<string>();
    for (const intent of journal.unfinished()) {
      const { id, action } = intent;
      if ('list' in action) lists.add(action.list);
      if (action.kind === 'removeTree') this.#directories.removeOriginals({ id, action }, true);
      else if (!continues || ('phase' in action && action.phase === 'undoing')) this.#end(intent);
    }
    if (continues) this.#timer = setTimeout(() => this.#endOrphans(), RESEND_LIMIT_MS).unref();
    await mover.forgetOthers(lists);
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  async rename(from: NodeId, name: string, to: NodeId, newName: string, how: RenameManner): Promise<void> {
    const { resolver, markers, backlog, tree } = this.#parts;
    await backlog.settled(tree.prefixOf(to) + newName);
    const begun = how.isResent ? this.#begun(from, name, tree.prefixOf(to) + newName) : undefined;
    const row = await resolver.need(from, name);
    const target = (await resolver.find(to, newName))?.row;
    const destination = { to, name: newName, target };
    if (target?.id === row.id) return;
    // Once begun, what the bucket has under the new name is the work of the earlier attempt.
    if (target !== undefined && how.noReplace && begun === undefined) throw new FsError('EEXIST');
    if (row.kind === 'directory') {
      if (target !== undefined && target.kind !== 'directory') throw new FsError('ENOTDIR');
      if (target !== undefined && begun === undefined) await markers.checkEmpty(target);
      await this.#directories.rename(row, destination, isDirectoryMove(begun) ? begun : undefined);
    } else {
      if (target?.kind === 'directory') throw new FsError('EISDIR');
      await this.#files.rename(row, destination, isFileMove(begun) ? begun : undefined);
    }
  }

  /** What an earlier process had begun, to be gone on with. */
  #begun(from: NodeId, name: string, newKey: string): Begun<FileMove | DirectoryMove> | undefined {
    const { index, journal } = this.#parts.context;
    const row = index.nodes.child(from, name);
    for (const { id, action } of journal.unfinished()) {
      if ((action.kind !== 'rename' && action.kind !== 'renameTree') || action.node !== row?.id) continue;
      const toKey = action.kind === 'rename' ? action.toKey : action.toPrefix.slice(0, -1);
      if (toKey === newKey && action.phase === 'copying' && !this.#moves.isCared(id)) return { id, action };
    }
    return undefined;
  }

  /** What nobody will ask for again. */
  #endOrphans(): void {
    for (const intent of this.#parts.context.journal.unfinished()) {
      if (!this.#moves.isCared(intent.id)) this.#end(intent);
    }
  }

  #end({ id, action }: IntentRow): void {
    if (action.kind === 'renameTree') {
      this.#moves.pursue(id, action, () => this.#directories.undo({ id, action }), 0);
    } else if (action.kind === 'rename') {
      const begun = { id, action };
      const isFailed = action.phase === 'undoing';
      this.#moves.pursue(id, action, () => (isFailed ? this.#files.undo(begun) : this.#files.redo(begun)), 0);
    }
  }
}

function isFileMove(begun: Begun<FileMove | DirectoryMove> | undefined): begun is Begun<FileMove> {
  return begun?.action.kind === 'rename';
}

function isDirectoryMove(begun: Begun<FileMove | DirectoryMove> | undefined): begun is Begun<DirectoryMove> {
  return begun?.action.kind === 'renameTree';
}
