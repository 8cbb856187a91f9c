/** Mounts whose files have all been read, for suites about hot files. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { run } from '../scripts/lib/programs.ts';
import type { Field } from './field.ts';
import type { Lab } from './lab.ts';
import { cpuMsOf } from './processes.ts';
import type { SuiteOptions } from './suite.ts';
import { LOCAL, type MountedTarget } from './targets.ts';

export const IMAGES = 'images';
export const IMAGE_BYTES = 40 * 1024;
const LIMIT_MS = 120_000;
const GRACE_MS = 30_000;
const WARM_UP_MS = 3_000;
const QUICK_WARM_UP_MS = 200;
const LAP_MS = 500;

export interface WarmOptions extends SuiteOptions {
  readonly files: number;
}

/** One mount of each target, of the same files `images/N.jpg`. */
export async function mountWarm(lab: Lab, field: Field, options: WarmOptions): Promise<Map<string, MountedTarget>> {
  const names = Array.from({ length: options.files }, (_, i) => `${IMAGES}/${i}.jpg`);
  const data = lab.dataSet(new Map(names.map((name) => [name, randomBytes(IMAGE_BYTES)])));
  const mounts = new Map<string, MountedTarget>();
  await field.each('mounting and warming up', async (target) => {
    const mounted = await lab.mount(target, data);
    if (target.name === LOCAL) await lab.forget(mounted.root);
    // Every file once at least, also where that takes long; then for some time, for caches that need a second look.
    const readAll = 'cat "$1"/* >/dev/null';
    await run('sh', ['-c', readAll, 'sh', join(mounted.root, IMAGES)], { limitMs: LIMIT_MS, signal: options.signal });
    const durationMs = options.quick ? QUICK_WARM_UP_MS : WARM_UP_MS;
    await visitsPerSecond(lab, 'cycle', mounted, { ...options, clients: 1, durationMs });
    mounts.set(target.name, mounted);
  });
  return mounts;
}

export interface Visits {
  readonly files: number;
  readonly clients: number;
  readonly durationMs: number;
  readonly signal: AbortSignal;
}

export interface Cycles {
  readonly perSecond: number;
  /** What the daemon takes for each; undefined where there is none. */
  readonly cpuUs: number | undefined;
}

/** After a lap that is not counted: what was believed to be true has expired while others were measured. */
export async function measureCycles(lab: Lab, mounted: MountedTarget, visits: Visits): Promise<Cycles> {
  const { pid } = mounted;
  await visitsPerSecond(lab, 'cycle', mounted, { ...visits, durationMs: LAP_MS });
  const cpuBeforeMs = pid === undefined ? 0 : await cpuMsOf(pid);
  const perSecond = await visitsPerSecond(lab, 'cycle', mounted, visits);
  if (pid === undefined) return { perSecond, cpuUs: undefined };
  const cpuUs = ((await cpuMsOf(pid)) - cpuBeforeMs) * 1000;
  return { perSecond, cpuUs: cpuUs / ((perSecond * visits.durationMs) / 1000) };
}

/** `cycle`: open, fstat, read, close. `stat`: that alone. */
export async function visitsPerSecond(
  lab: Lab,
  what: 'cycle' | 'stat',
  { root }: MountedTarget,
  { files, clients, durationMs, signal }: Visits,
): Promise<number> {
  const args = [what, join(root, IMAGES), String(files), String(clients), String(durationMs)];
  const { stdout } = await run(await lab.program('hot'), args, { limitMs: durationMs + GRACE_MS, signal });
  return (Number(stdout) * 1000) / durationMs;
}
