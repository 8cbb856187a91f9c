/** Where a mount keeps its things: the usual places of a system service for root, the XDG ones for other users. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';

export interface BaseDirectories {
  readonly state: string;
  readonly cache: string;
  readonly log: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

export function baseDirectories(uid: number, environment: Environment): BaseDirectories {
  if (uid === 0) return { state: '/var/lib/tsfs', cache: '/var/cache/tsfs', log: '/var/log/tsfs' };
  const home = environment.HOME || homedir();
  const state = join(environment.XDG_STATE_HOME || join(home, '.local/state'), 'tsfs');
  return { state, cache: join(environment.XDG_CACHE_HOME || join(home, '.cache'), 'tsfs'), log: join(state, 'log') };
}

/** The directory of the control sockets of one user's mounts. Found from the uid, as root looks after other users' mounts too. */
export function runDirectory(uid: number): string {
  if (uid === 0) return '/run/tsfs';
  return existsSync(`/run/user/${uid}`) ? `/run/user/${uid}/tsfs` : `/tmp/tsfs-run-${uid}`;
}

/** Names state, cache and log: the same mount finds them again, another one never does. */
export function mountName(mount: {
  readonly endpointUrl: string | undefined;
  readonly bucket: string;
  readonly prefix: string;
  readonly mountpoint: string;
}): string {
  return `${mount.bucket}-${hash([mount.endpointUrl ?? '', mount.bucket, mount.prefix, mount.mountpoint].join('\0'))}`;
}

/** Depends on the mount point only: `umount DIR` and `status DIR` know no more. Short, as sun_path holds 107 bytes. */
export function controlSocketPath(directory: string, mountpoint: string): string {
  const label =
    basename(mountpoint)
      .replace(/[^A-Za-z0-9._-]/g, '_')
      .slice(0, 24) || 'root';
  return join(directory, `${label}-${hash(mountpoint)}.sock`);
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
