/** What the visitor is shown: some steps on the mount, with the S3 requests of each, and the same on the local disk. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../lib/programs.ts';
import { formatCounts, formatMs } from '../lib/table.ts';

export type RequestCounts = Readonly<Record<string, number>>;

export interface Tour {
  readonly mountpoint: string;
  /** Holds the same images. */
  readonly localDirectory: string;
  readonly signal: AbortSignal;
  /** All requests so far. */
  countRequests(): Promise<RequestCounts>;
}

interface Step {
  readonly title: string;
  /** Words for `probe.ts`. */
  probe(root: string): string[];
}

const FIRST_IMAGE = 'image-0001.png';
const REREADS = 1_000;
const UPLOAD_BYTES = 120_000;
const PROBE = new URL('./probe.ts', import.meta.url).pathname;
const STEP_LIMIT_MS = 60_000;
/** Requests that go on behind a step belong to it: no new ones for so long, and it is over. */
const QUIET_MS = 300;
const QUIET_LIMIT_MS = 15_000;

const STEPS: readonly Step[] = [
  { title: 'read an image for the first time', probe: (root) => ['read', join(root, FIRST_IMAGE)] },
  { title: 'read it again (median of 1000)', probe: (root) => ['reread', join(root, FIRST_IMAGE), String(REREADS)] },
  { title: 'list the directory with all attributes', probe: (root) => ['list', root] },
  { title: 'list it again', probe: (root) => ['list', root] },
  { title: 'upload an image of 120 KB', probe: (root) => ['write', join(root, 'upload.png'), String(UPLOAD_BYTES)] },
  { title: 'read the upload', probe: (root) => ['read', join(root, 'upload.png')] },
  { title: 'rename it', probe: (root) => ['rename', join(root, 'upload.png'), join(root, 'renamed.png')] },
];

export const HEADER = ['', 'tsfs', 'S3 requests', 'local disk'];

/** Lines of a table, one after the other as they are measured. */
export async function* takeTour(tour: Tour): AsyncGenerator<string[]> {
  for (const step of STEPS) {
    const before = await tour.countRequests();
    const mountMs = await probe(step, tour.mountpoint, tour.signal);
    const waitedFor = await tour.countRequests();
    const later = difference(await quietCounts(tour), waitedFor);
    const requests = formatCounts(difference(waitedFor, before));
    const localMs = await probe(step, tour.localDirectory, tour.signal);
    const behind = sum(later) === 0 ? '' : `, then ${formatCounts(later)}`;
    yield [step.title, formatMs(mountMs), `${requests}${behind}`, formatMs(localMs)];
  }
}

/** The counts when nothing goes on in the background any more. */
async function quietCounts({ countRequests, signal }: Tour): Promise<RequestCounts> {
  let counts = await countRequests();
  for (let waitedMs = 0; waitedMs < QUIET_LIMIT_MS; waitedMs += QUIET_MS) {
    await sleep(QUIET_MS, undefined, { signal });
    const next = await countRequests();
    if (sum(next) === sum(counts)) break;
    counts = next;
  }
  return counts;
}

function sum(counts: RequestCounts): number {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

async function probe(step: Step, root: string, signal: AbortSignal): Promise<number> {
  const words = step.probe(root);
  return Number((await run(process.execPath, [PROBE, ...words], { limitMs: STEP_LIMIT_MS, signal })).stdout);
}

function difference(after: RequestCounts, before: RequestCounts): RequestCounts {
  return Object.fromEntries(Object.entries(after).map(([type, count]) => [type, count - (before[type] ?? 0)]));
}
