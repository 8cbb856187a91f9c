/** The file systems that are compared: the local disk, tsfs in its forms, and its peers where they are installed. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { unmount as detach, isMounted, waitUntilMounted } from '../scripts/lib/mounts.ts';
import { Background, findProgram, run } from '../scripts/lib/programs.ts';

export interface MountRequest {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly bucket: string;
  /** An empty directory of the mount's own: mount point, cache and state go there. */
  readonly directory: string;
  /** A directory of the bucket's own, the same for every mount of it. */
  readonly bucketDirectory: string;
}

export interface MountedTarget {
  /** Where the bucket's files are. */
  readonly root: string;
  /** The process that was started for it; what belongs to the mount are its descendants. Absent for the local disk. */
  readonly pid?: number;
  unmount(): Promise<void>;
}

export type Availability = { readonly version: string; readonly options: string } | { readonly missing: string };

export interface Target {
  readonly name: string;
  /**
   * `disk`: no store behind it. `objects`: a file is an object of the same name. `own`: keeps files in a format of its own, so
   * that they must be written through it. `built-in`: always the same files, and no store.
   */
  readonly format: 'disk' | 'objects' | 'own' | 'built-in';
  readonly writable: boolean;
  /** Another form of one that is in the comparison already: of interest where files are read hot, nowhere else. */
  readonly isVariant: boolean;
  /** How long after close() the last upload may begin. */
  readonly writeBackMs: number;
  availability(): Promise<Availability>;
  /** Once for each bucket, where the format needs that. */
  prepare?(request: MountRequest): Promise<void>;
  mount(request: MountRequest): Promise<MountedTarget>;
}

/** What the others are compared with. */
export const LOCAL = 'local';

const STOP_GRACE_MS = 20_000;
const VERSION_LIMIT_MS = 120_000;
const UNMOUNT_LIMIT_MS = 15_000;

export const local: Target = {
  name: LOCAL,
  format: 'disk',
  writable: true,
  isVariant: false,
  writeBackMs: 0,
  availability: async () => ({ version: (await run('uname', ['-r'])).stdout.trim(), options: '' }),
  mount: async ({ directory }) => ({ root: directory, unmount: async () => {} }),
};

/** For programs that tell their version in the first line of output. */
export async function versionOf(program: string, args: readonly string[], options: string): Promise<Availability> {
  if (!program.includes('/') && (await findProgram(program)) === undefined) return { missing: 'not installed' };
  try {
    const { stdout } = await run(program, args, { limitMs: VERSION_LIMIT_MS });
    return { version: stdout.trim().split('\n')[0]?.trim() ?? '', options };
  } catch (error) {
    return { missing: error instanceof Error ? error.message : String(error) };
  }
}

export interface MountPaths {
  readonly mountpoint: string;
  readonly cache: string;
  readonly state: string;
}

export async function makeDirectories({ directory }: MountRequest): Promise<MountPaths> {
  const paths = {
    mountpoint: join(directory, 'mnt'),
    cache: join(directory, 'cache'),
    state: join(directory, 'state'),
  };
  for (const path of Object.values(paths)) await mkdir(path);
  return paths;
}

export interface MountCommand {
  readonly program: string;
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** All must appear; the files are seen below the last one. */
  readonly mountpoints: readonly string[];
}

/** Starts a daemon in the foreground and waits for its mounts. Whatever happens later, `unmount` leaves nothing of it. */
export async function mountWith({ program, args, env, mountpoints }: MountCommand): Promise<MountedTarget> {
  const daemon = new Background(program, args, env ?? process.env);
  const stop = async () => {
    for (const mountpoint of mountpoints.toReversed()) await unmount(mountpoint);
    await daemon.stop(STOP_GRACE_MS);
    // One that came up while its daemon was being stopped.
    for (const mountpoint of mountpoints) await unmount(mountpoint);
  };
  try {
    for (const mountpoint of mountpoints) await waitUntilMounted(mountpoint, daemon);
  } catch (error) {
    await stop();
    throw error;
  }
  return { root: mountpoints.at(-1) ?? '', ...(daemon.pid !== undefined && { pid: daemon.pid }), unmount: stop };
}

/** Where somebody still waits for an answer, it gets an error: a process that hangs in a mount could not be ended else. */
async function unmount(mountpoint: string): Promise<void> {
  if (!(await isMounted(mountpoint))) return;
  const isRoot = process.getuid?.() === 0;
  const polite: [string, string[]] = isRoot ? ['umount', [mountpoint]] : ['fusermount3', ['-u', mountpoint]];
  const isBusy = await run(...polite, { limitMs: UNMOUNT_LIMIT_MS }).then(
    () => false,
    () => true,
  );
  // MNT_FORCE aborts the connection; it fails with EBUSY nevertheless.
  if (isBusy && isRoot) await run('umount', ['-f', mountpoint], { limitMs: UNMOUNT_LIMIT_MS }).catch(() => undefined);
  await detach(mountpoint);
}
