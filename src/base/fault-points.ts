/**
 * The instants at which tests end the process, to see that nothing is lost: every step of everything that takes more than one.
 * TSFS_FAULTS names a file that may appear and says `POINT worker|all`: the process that reaches that point removes it and is killed; with
 * `all`, its guardian before it. Without the variable nothing happens.
 */
import { readFileSync, rmSync } from 'node:fs';

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
  'settle.taken',
  'settle.unlisted',
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

const planFile = process.env.TSFS_FAULTS;

export function faultPoint(point: FaultPoint): void {
  if (planFile !== undefined) strike(planFile, point);
}

function strike(file: string, reached: FaultPoint): void {
  const [point, victims] = readPlan(file);
  if (point !== reached) return;
  rmSync(file);
  if (victims === 'all' && isGuardian(process.ppid)) process.kill(process.ppid, 'SIGKILL');
  process.kill(process.pid, 'SIGKILL');
}

function readPlan(file: string): string[] {
  try {
    return readFileSync(file, 'utf8').split(' ');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function isGuardian(pid: number): boolean {
  return readFileSync(`/proc/${pid}/comm`, 'utf8') === 'tsfs\n';
}
