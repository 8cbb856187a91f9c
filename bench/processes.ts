/** What the processes of a mount take from the machine. */
import { readdir, readFile } from 'node:fs/promises';

/** USER_HZ, which Linux has fixed for what /proc shows. */
const TICK_MS = 10;
const KIB = 1024;

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly cpuMs: number;
}

/** CPU time that a process and its descendants have used so far, user and system. */
export async function cpuMsOf(root: number): Promise<number> {
  return (await family(root)).reduce((sum, { cpuMs }) => sum + cpuMs, 0);
}

/** Memory of a process and its descendants; pages that several share are counted once. */
export async function memoryBytesOf(root: number): Promise<number> {
  const sizes = await Promise.all((await family(root)).map(({ pid }) => proportionalBytes(pid)));
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

async function family(root: number): Promise<readonly Process[]> {
  const all = await readProcesses();
  const members = new Set([root]);
  // Children may come before their parents in the table.
  for (let before = 0; before !== members.size; ) {
    before = members.size;
    for (const { pid, parent } of all) if (members.has(parent)) members.add(pid);
  }
  return all.filter(({ pid }) => members.has(pid));
}

async function readProcesses(): Promise<readonly Process[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const processes = await Promise.all(pids.map((pid) => readProcess(Number(pid))));
  return processes.filter((process) => process !== undefined);
}

/** undefined: it has ended meanwhile. */
async function readProcess(pid: number): Promise<Process | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  // The name, in parentheses, may hold anything; fields are counted from behind it (proc(5): state is field 3).
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (fields === undefined) return undefined;
  const field = (number: number) => Number(fields[number - 3]);
  return { pid, parent: field(4), cpuMs: (field(14) + field(15)) * TICK_MS };
}

async function proportionalBytes(pid: number): Promise<number> {
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '');
  return Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * KIB;
}
