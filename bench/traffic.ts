/** The requests behind one operation, also those that it leaves to the background. */
import { setTimeout as sleep } from 'node:timers/promises';
import { formatCounts } from '../scripts/lib/table.ts';
import type { FaultProxy } from '../test/support/proxy.ts';

/** So long without a request, and an operation is over. */
const QUIET_MS = 500;
const QUIET_LIMIT_MS = 180_000;
const POLL_MS = 20;

export function totalRequests(proxy: FaultProxy): number {
  return Object.values(proxy.counts()).reduce((sum, count) => sum + count, 0);
}

/**
 * Waits until no more requests come; `writeBackMs` is how late the first may begin. Returns how long after the call the
 * last one came, in milliseconds.
 */
export async function untilQuiet(proxy: FaultProxy, writeBackMs: number, signal: AbortSignal): Promise<number> {
  const startMs = performance.now();
  let known = totalRequests(proxy);
  let lastMs = 0;
  for (let nowMs = 0; nowMs < QUIET_LIMIT_MS; nowMs = performance.now() - startMs) {
    const count = totalRequests(proxy);
    if (count !== known) {
      known = count;
      lastMs = nowMs;
    }
    if (nowMs >= writeBackMs && nowMs - lastMs >= QUIET_MS) return lastMs;
    await sleep(POLL_MS, undefined, { signal });
  }
  throw new Error(`requests still come after ${QUIET_LIMIT_MS / 1000} s`);
}

export function requestNote(proxy: FaultProxy): string {
  return formatCounts(proxy.counts());
}

/** Requests for each of `files`: `1 PUT + 0.5 LIST`. All of them when no file was done. */
export function requestsPerFile(proxy: FaultProxy, files: number): string {
  if (files === 0) return `${requestNote(proxy)} in vain`;
  const perFile = Object.entries(proxy.counts()).map(([type, count]) => [type, Number((count / files).toPrecision(2))]);
  return `${formatCounts(Object.fromEntries(perFile))} each`;
}
