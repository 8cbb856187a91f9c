import { readFile } from 'node:fs/promises';

export interface MountEntry {
  readonly mountPoint: string;
  readonly type: string;
  readonly source: string;
  /** Minor number of the device: the connection's directory in `/sys/fs/fuse/connections`. */
  readonly deviceMinor: number;
  /** Who mounted it; FUSE says so, most others do not. */
  readonly ownerUid: number | undefined;
}

/** `/proc/self/mountinfo` writes space, tab, newline and backslash as octal escapes. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_match, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

export function parseMountInfo(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const [before, after] = line.split(' - ');
    const [, , device, , mountPoint] = before?.split(' ') ?? [];
    const [type, source, superOptions = ''] = after?.split(' ') ?? [];
    if (device === undefined || mountPoint === undefined || type === undefined || source === undefined) continue;
    const deviceMinor = Number(device.split(':')[1]);
    const owner = /(?:^|,)user_id=(\d+)/.exec(superOptions)?.[1];
    const ownerUid = owner === undefined ? undefined : Number(owner);
    entries.push({ mountPoint: unescapeOctal(mountPoint), type, source: unescapeOctal(source), deviceMinor, ownerUid });
  }
  return entries;
}

/** In order of mounting: the last one at a mount point is the one that is seen. */
export async function readMounts(): Promise<MountEntry[]> {
  return parseMountInfo(await readFile('/proc/self/mountinfo', 'utf8'));
}

/** The mount that is seen at exactly this absolute path, the topmost when there are several. */
export async function findMount(mountPoint: string): Promise<MountEntry | undefined> {
  return (await readMounts()).findLast((entry) => entry.mountPoint === mountPoint);
}
