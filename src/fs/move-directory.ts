/** A directory gets another name: everything below is copied, then the originals are deleted. See `renames.ts` for what a crash leaves. */
import { randomUUID } from 'node:crypto';
import { faultPoint } from '../base/fault-points.ts';
import type { IntentAction, NodeRow } from '../index/contract.ts';
import { FsError } from './errors.ts';
import type { Begun, Destination, DirectoryMove, Moves } from './moves.ts';

type Removal = Extract<IntentAction, { kind: 'removeTree' }>;

const RETRY_MS = 1_000;

export class DirectoryMoves {
  readonly #moves: Moves;

  constructor(moves: Moves) {
    this.#moves = moves;
  }

  /** `begun`: by an earlier process. */
  async rename(row: NodeRow, destination: Destination, begun: Begun<DirectoryMove> | undefined): Promise<void> {
    const { tree, backlog, markers, keyGate } = this.#moves.parts;
    const { to, name } = destination;
    await backlog.settledBelow(tree.prefixOf(row.id));
    await backlog.settledBelow(tree.newKey(to, name, 'directory'));
    await keyGate.exclusive(async () => {
      const current = tree.row(row.id);
      const fromPrefix = tree.prefixOf(row.id);
      const toPrefix = tree.newKey(to, name, 'directory');
      // Come again after a crash: what an earlier process had begun has been finished meanwhile.
      if (toPrefix === fromPrefix) return;
      if (toPrefix.startsWith(fromPrefix)) throw new FsError('EINVAL');
      await markers.keepParentOf(current);
      await this.#move(current, destination, begun ?? (await this.#begin(current, fromPrefix, toPrefix)));
    });
  }

  /** Deletes the copies: the source is whole. */
  async undo({ id, action }: Begun<DirectoryMove>): Promise<void> {
    const { mover, journal } = this.#moves.parts.context;
    await mover.undoTree(action);
    faultPoint('tree.undone');
    await mover.forgetTree(action);
    journal.done(id);
  }

  /** In the background: the copies have the name. `isRecovered`: somebody may have written to the originals since. */
  removeOriginals({ id, action }: Begun<Removal>, isRecovered: boolean): void {
    const { context, backlog } = this.#moves.parts;
    const { mover, journal } = context;
    let checked = isRecovered;
    const attempt = async () => {
      const how = { checked };
      checked = true;
      await mover.removeTree(action, how);
      await mover.forgetTree(action);
      faultPoint('tree.forgotten');
      journal.done(id);
    };
    const hidden = { kind: 'tree', prefix: action.fromPrefix, isDirectoryThere: false } as const;
    void backlog.pursue({ intent: id, hidden, attempt }, 0);
  }

  /** Looks at the target once more, past all beliefs: what is there is not ours to mix with. */
  async #begin(row: NodeRow, fromPrefix: string, toPrefix: string): Promise<Begun<DirectoryMove>> {
    const { context } = this.#moves.parts;
    let keepsMarker = false;
    for await (const { objects } of context.store.list({ prefix: toPrefix, limit: 2 })) {
      if (objects.some(({ key }) => key !== toPrefix)) throw new FsError('ENOTEMPTY');
      keepsMarker ||= objects.length > 0;
    }
    const markerKey = this.#moves.parts.tree.keyOf(row);
    const tree = { fromPrefix, toPrefix, markerKey, keepsMarker, list: `move-${randomUUID()}` };
    return this.#moves.begin({ kind: 'renameTree', node: row.id, phase: 'copying', ...tree });
  }

  #move(row: NodeRow, destination: Destination, { id, action }: Begun<DirectoryMove>): Promise<void> {
    const { context, tree, backlog, markers } = this.#moves.parts;
    const { index, journal, mover, clock } = context;
    return this.#moves.working(id, async () => {
      const count = await mover.copyTree(action).catch(async (error: unknown) => {
        await this.#takeBack({ id, action: { ...action, phase: 'undoing' } });
        throw error;
      });
      faultPoint('tree.copied');
      const removal: Removal = { ...action, kind: 'removeTree' };
      index.transaction(() => {
        journal.become(id, removal);
        this.#moves.takeName(row, destination, { validatedAtMs: clock.stampMs() });
      });
      faultPoint('tree.named');
      this.removeOriginals({ id, action: removal }, false);
      // What fails for now goes on in the background.
      await backlog.settle(id).catch(() => undefined);
      // Nothing in the bucket told of the directory.
      if (count === 0) await markers.put(tree.row(row.id));
    });
  }

  /** A copy failed. What was made goes before the caller hears of it, or as soon as the bucket lets us. */
  async #takeBack(begun: Begun<DirectoryMove>): Promise<void> {
    const { journal, log } = this.#moves.parts.context;
    journal.become(begun.id, begun.action);
    faultPoint('tree.undoing');
    try {
      await this.undo(begun);
    } catch (error) {
      log.warn({ to: begun.action.toPrefix, error: String(error) }, 'a rename that failed is taken back later');
      this.#moves.pursue(begun.id, begun.action, () => this.undo(begun), RETRY_MS);
    }
  }
}
