/**
 * Connections to the kernel that outlive their mounts: one that still has a request waiting holds up its caller for ever, and with it whoever
 * looks at that process.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

const CONNECTIONS = '/sys/fs/fuse/connections';
const LIMIT_MS = 5000;

/** Numbers of the connections behind the mounts of a source: the minor device numbers of `/proc/self/mountinfo`. */
export async function connectionsOf(source: string): Promise<number[]> {
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
  const own = lines.filter((line) => line.includes(` - fuse.tsfs ${source} `));
  return own.map((line) => Number(line.split(' ')[2]?.split(':')[1]));
}

/** Once nothing is mounted any more. Rejects when requests still wait; they are let go. */
export async function expectNobodyWaits(connections: Iterable<number>): Promise<void> {
  const left = [];
  for (const connection of connections) if (await hasWaiting(connection)) left.push(connection);
  if (left.length === 0) return;
  for (const connection of left) await writeFile(`${CONNECTIONS}/${connection}/abort`, '1').catch(() => undefined);
  throw new Error(`requests wait on connections that are not mounted any more: ${left}`);
}

async function hasWaiting(connection: number): Promise<boolean> {
  const deadlineMs = performance.now() + LIMIT_MS;
  for (;;) {
    // Not there (or no fusectl here), or the number belongs to a mount again.
    const waiting = await readFile(`${CONNECTIONS}/${connection}/waiting`, 'utf8').catch(() => '0');
    const isMounted = (await readFile('/proc/self/mountinfo', 'utf8')).includes(` 0:${connection} `);
    if (Number(waiting) === 0 || isMounted) return false;
    if (performance.now() > deadlineMs) return true;
    await sleep(100);
  }
}
