/** What moves of files and of directories share: intents, names in the index, and work that goes on in the background. */
import { faultPoint } from '../base/fault-points.ts';
import type { NodeId } from '../base/ids.ts';
import type { IntentAction, NodeFields, NodeRow } from '../index/contract.ts';
import { tellViews } from './context.ts';
import type { NamespaceParts } from './namespace.ts';

export type FileMove = Extract<IntentAction, { kind: 'rename' }>;
export type DirectoryMove = Extract<IntentAction, { kind: 'renameTree' }>;

/** A move that has its intent. */
export interface Begun<Action> {
  readonly id: number;
  readonly action: Action;
}

/** Where a node goes, and what has that name now. */
export interface Destination {
  readonly to: NodeId;
  readonly name: string;
  readonly target: NodeRow | undefined;
}

export class Moves {
  readonly parts: NamespaceParts;
  readonly #underWay = new Set<number>();

  constructor(parts: NamespaceParts) {
    this.parts = parts;
  }

  /** Whether somebody works on it, or will. */
  isCared(intent: number): boolean {
    return this.#underWay.has(intent) || this.parts.backlog.has(intent);
  }

  async begin<Action extends FileMove | DirectoryMove>(action: Action): Promise<Begun<Action>> {
    const { journal } = this.parts.context;
    const id = journal.begin(action);
    // Without it, a crash of the machine could leave a copy that nobody knows of.
    await journal.sync();
    faultPoint(action.kind === 'rename' ? 'rename.begun' : 'tree.begun');
    return { id, action };
  }

  async working<T>(intent: number, task: () => Promise<T>): Promise<T> {
    this.#underWay.add(intent);
    try {
      return await task();
    } finally {
      this.#underWay.delete(intent);
    }
  }

  /** In the background, alone with the keys: nobody changes the source meanwhile. */
  pursue(intent: number, action: FileMove | DirectoryMove, run: () => Promise<void>, delayMs: number): void {
    const { backlog, keyGate } = this.parts;
    void backlog.pursue({ intent, hidden: hiddenBy(action), attempt: () => keyGate.exclusive(run) }, delayMs);
  }

  /** In the index: the old target loses the name, the node gets it. */
  takeName(row: NodeRow, { to, name, target }: Destination, fields: Partial<NodeFields>): void {
    const { context, tree, retirement } = this.parts;
    const { index, beliefs, journal } = context;
    index.transaction(() => {
      if (target !== undefined) retirement.retireId(target.id);
      // A probe or a listing may have found the new name while the copy was under way.
      const intruder = index.nodes.child(to, name);
      if (intruder !== undefined && intruder.id !== row.id) retirement.retire(intruder);
      index.nodes.move(row.id, to, name);
      index.nodes.update(row.id, fields);
    });
    if (row.kind === 'directory') journal.noteAllMoved();
    else journal.noteMoved(row.id);
    if (row.parent !== undefined) beliefs.noteRemoved(row.parent, row.name);
    beliefs.notePresent(to, name);
    if (row.parent !== undefined) tellViews(context, row.parent, row.name);
    tellViews(context, to, name);
    if (row.kind === 'directory') tree.forgetPrefixes();
  }
}

/** The new name is not there, unless it was before. */
function hiddenBy(action: FileMove | DirectoryMove) {
  if (action.kind === 'renameTree') {
    return { kind: 'tree', prefix: action.toPrefix, isDirectoryThere: action.keepsMarker } as const;
  }
  return action.replaces === undefined ? ({ kind: 'key', key: action.toKey } as const) : ({ kind: 'nothing' } as const);
}
