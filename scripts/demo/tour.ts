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
/** Requests that go on behind a step belong to it. */
const SETTLE_MS = 300;

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
    await sleep(SETTLE_MS, undefined, { signal: tour.signal });
    const requests = difference(await tour.countRequests(), before);
    const localMs = await probe(step, tour.localDirectory, tour.signal);
    yield [step.title, formatMs(mountMs), formatCounts(requests), formatMs(localMs)];
  }
}

async function probe(step: Step, root: string, signal: AbortSignal): Promise<number> {
  const words = step.probe(root);
  return Number((await run(process.execPath, [PROBE, ...words], { limitMs: STEP_LIMIT_MS, signal })).stdout);
}

function difference(after: RequestCounts, before: RequestCounts): RequestCounts {
  return Object.fromEntries(Object.entries(after).map(([type, count]) => [type, count - (before[type] ?? 0)]));
}
