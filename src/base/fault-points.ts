/**
 * The instants at which tests end the process, to see that nothing is lost: every step of everything that takes more than one.
 * TSFS_FAULT=NAME[:NTH][:all] names one; it strikes once, and leaves the file TSFS_FAULT_MARK so that successors go on. `all`: the guardian,
 * which is the parent of this process, goes first. Nothing happens without both variables.
 */
import { closeSync, openSync, readFileSync } from 'node:fs';

export const FAULT_POINTS = [
  'create.named',
  'stage.filed',
  'stage.listed',
  'stage.written',
  'upload.begun',
  'upload.put',
  'upload.parts',
  'upload.completed',
  'upload.noted',
  'settle.detached',
  'settle.unlisted',
  'settle.adopted',
  'discard.removed',
  'rename.begun',
  'rename.copied',
  'rename.named',
  'rename.deleted',
  'tree.begun',
  'tree.planned',
  'tree.page',
  'tree.copied',
  'tree.named',
  'tree.marked',
  'tree.deleted',
  'tree.forgotten',
  'tree.undoing',
  'tree.undone',
  'unlink.kept',
  'unlink.deleted',
  'burst.begun',
  'burst.deleted',
  'rmdir.deleted',
  'mkdir.put',
  'symlink.put',
  'attributes.stored',
  'copy.copied',
  'copy.noted',
] as const;

export type FaultPoint = (typeof FAULT_POINTS)[number];

interface Plan {
  readonly point: string;
  readonly isForAll: boolean;
  readonly mark: string;
  left: number;
}

const plan = parse(process.env.TSFS_FAULT, process.env.TSFS_FAULT_MARK);

export function faultPoint(point: FaultPoint): void {
  if (plan !== undefined && plan.point === point) strike(plan);
}

function parse(text: string | undefined, mark: string | undefined): Plan | undefined {
  if (text === undefined || mark === undefined) return undefined;
  const [point = '', ...rest] = text.split(':');
  return { point, mark, isForAll: rest.includes('all'), left: Number(rest.find((word) => /^\d+$/.test(word)) ?? 1) };
}

function strike(reached: Plan): void {
  reached.left -= 1;
  if (reached.left !== 0 || !isFirst(reached.mark)) return;
  if (reached.isForAll && isGuardian(process.ppid)) process.kill(process.ppid, 'SIGKILL');
  process.kill(process.pid, 'SIGKILL');
}

function isFirst(mark: string): boolean {
  try {
    closeSync(openSync(mark, 'wx'));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function isGuardian(pid: number): boolean {
  return readFileSync(`/proc/${pid}/comm`, 'utf8') === 'tsfs\n';
}
