/** Files that are opened: for the first time, anew by a successor, and to their release. */
import { constants } from 'node:fs';
import type { NodeId } from '../base/ids.ts';
import type { NodeRow } from '../index/contract.ts';
import type { OpenRecord, OpenReply } from '../kernel/contract.ts';
import type { AttributeChanges } from './attributes.ts';
import type { Committer } from './committer.ts';
import type { Contents } from './content.ts';
import type { FsContext } from './context.ts';
import type { HotFiles } from './hot-files.ts';
import type { Namespace } from './namespace.ts';
import type { NextFiles } from './next-files.ts';
import type { OpenFile, OpenFiles } from './open-files.ts';
import type { Retirement } from './retirement.ts';
import type { Tree } from './tree.ts';

const { O_ACCMODE = 3, O_RDONLY, O_TRUNC, O_EXCL } = constants as typeof constants & { O_ACCMODE?: number };

export interface OpensParts {
  readonly context: FsContext;
  readonly tree: Tree;
  readonly openFiles: OpenFiles;
  readonly contents: Contents;
  readonly attributes: AttributeChanges;
  readonly committer: Committer;
  readonly namespace: Namespace;
  readonly retirement: Retirement;
  readonly hotFiles: HotFiles;
  readonly nextFiles: NextFiles;
}

/** Whether open(2) with these flags gives a descriptor that can be written. */
export function writes(flags: number): boolean {
  return (flags & O_ACCMODE) !== O_RDONLY;
}

/** O_TRUNC empties a file without write access. */
export function changes(flags: number): boolean {
  return writes(flags) || (flags & O_TRUNC) !== 0;
}

export class Opens {
  readonly #parts: OpensParts;

  constructor(parts: OpensParts) {
    this.#parts = parts;
  }

  /** `row`: a file, as it is now. */
  open(row: NodeRow, flags: number, killPrivileges: boolean): Promise<OpenReply> {
    const { attributes, contents, hotFiles, nextFiles } = this.#parts;
    const { id } = row;
    if (!writes(flags)) nextFiles.noteOpen(row);
    return this.#open(id, flags, async (file) => {
      if ((flags & O_TRUNC) !== 0) await attributes.truncate(id, 0);
      if (killPrivileges) contents.dropPrivileges(id);
      const reply = await this.#reply(file);
      if (!writes(flags) && reply.backingFd === undefined && !contents.mayBeLent(row)) hotFiles.offer(id);
      return reply;
    });
  }

  /** A file that was made just now. */
  openNew(id: NodeId, flags: number): Promise<OpenReply> {
    return this.#open(id, flags, async (file) => {
      await this.#stageNew(file, (flags & O_EXCL) !== 0 && this.#parts.tree.row(id).etag === undefined);
      return this.#reply(file);
    });
  }

  /** The same for mknod(2), which leaves nothing open: empty, and in the bucket. */
  async commitNew(id: NodeId): Promise<void> {
    const { openFiles, committer } = this.#parts;
    await openFiles.use(id, async (file) => {
      await this.#stageNew(file, false);
      await committer.commit(id);
    });
  }

  /** An open that an earlier process answered, and that is not released. */
  async reopen({ node, flags, backingId, backingInode }: OpenRecord): Promise<void> {
    const { context, openFiles, contents } = this.#parts;
    if (context.index.nodes.get(node) === undefined) return;
    const file = await openFiles.open(node, flags & O_ACCMODE);
    if (backingId > 0) await contents.inheritBackingFile(file, backingInode);
  }

  release(id: NodeId, flags: number): void {
    const { openFiles, committer } = this.#parts;
    openFiles.release(id, writes(flags));
    // Errors reach nobody; the committer logs them and keeps the content.
    if (writes(flags)) committer.afterRelease(id).catch(() => undefined);
  }

  /** What cannot be answered does not stay open. */
  async #open(id: NodeId, flags: number, answer: (file: OpenFile) => Promise<OpenReply>): Promise<OpenReply> {
    const { openFiles } = this.#parts;
    const file = await openFiles.open(id, flags & O_ACCMODE);
    try {
      return await answer(file);
    } catch (error) {
      openFiles.release(id, writes(flags));
      throw error;
    }
  }

  /** Where there is no room for what the file will hold, its name does not stay. */
  async #stageNew(file: OpenFile, isExclusive: boolean): Promise<void> {
    const { contents, namespace } = this.#parts;
    try {
      await contents.stage(file, isExclusive);
    } catch (error) {
      namespace.withdraw(file.id);
      throw error;
    }
  }

  async #reply(file: OpenFile): Promise<OpenReply> {
    const { contents, retirement } = this.#parts;
    // Opens that an earlier process answered may go through the page cache, which excludes passthrough. Who has it already keeps it.
    const hasIt = file.mayHaveUnseenWrites || file.lent !== undefined;
    // Whoever may write now writes to what the readers have.
    if (file.writers > 0 && file.lent !== undefined) await contents.stage(file);
    let backingFd: number | undefined;
    if (!file.isForeign && (hasIt || !retirement.isInherited(file.id))) {
      backingFd = await (file.writers > 0 ? contents.backingFd(file) : contents.lend(file));
    }
    if (file.isForeign) return { keepCache: false, directIo: true };
    // A node is one version, and local changes go through the page cache: what it holds is true.
    return backingFd === undefined ? { keepCache: true } : { keepCache: true, backingFd };
  }
}
