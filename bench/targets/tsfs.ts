/** tsfs as it is mounted by default, and with one thing changed. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OPTIONS } from '../../src/cli/options.ts';
import {
  type Availability,
  type MountRequest,
  makeDirectories,
  mountWith,
  type Target,
  versionOf,
} from '../targets.ts';

const TSFS = new URL('../../scripts/tsfs', import.meta.url).pathname;
const COMMON = 'use_path_request_style';

interface Variant {
  readonly name: string;
  /** Name of the option that makes the difference; its value, and its opposite. */
  readonly option?: { readonly name: string; readonly text: string };
  readonly writable: boolean;
  readonly isVariant: boolean;
  /** The files are read at a second mount point, which the option names. */
  readonly hasView?: true;
}

function tsfs(variant: Variant): Target {
  const { name, option, writable, isVariant } = variant;
  return {
    name,
    format: 'objects',
    writable,
    isVariant,
    writeBackMs: 0,
    availability: () => availability(variant),
    mount: async (request) => {
      const { mountpoint, cache, state } = await makeDirectories(request);
      const passwd = await writePasswd(request);
      const view = variant.hasView && join(request.directory, 'view');
      if (view !== undefined) await mkdir(view);
      const own = `state_dir=${state},logfile=${join(request.directory, 'log')}`;
      const common = `url=${request.endpoint},${COMMON},passwd_file=${passwd},use_cache=${cache}`;
      const special = option && `,${option.text}${view ?? ''}`;
      return mountWith({
        program: TSFS,
        args: ['mount', '--foreground', request.bucket, mountpoint, '-o', `${common},${own}${special ?? ''}`],
        mountpoints: view === undefined ? [mountpoint] : [mountpoint, view],
      });
    },
  };
}

async function availability({ option }: Variant): Promise<Availability> {
  if (option !== undefined && !(option.name in OPTIONS)) {
    return { missing: `this version of tsfs has no option "${option.name}"` };
  }
  return versionOf(TSFS, ['--version'], option === undefined ? COMMON : `${COMMON},${option.text}`);
}

/** `KEY:SECRET`, as s3fs has it too; its path. */
export async function writePasswd(request: MountRequest): Promise<string> {
  const passwd = join(request.directory, 'passwd');
  await writeFile(passwd, `${request.accessKeyId}:${request.secretAccessKey}\n`, { mode: 0o600 });
  return passwd;
}

export const TSFS_TARGETS: readonly Target[] = [
  tsfs({ name: 'tsfs', writable: true, isVariant: false }),
  tsfs({ name: 'tsfs-ro', option: { name: 'ro', text: 'ro' }, writable: false, isVariant: true }),
  tsfs({
    name: 'tsfs-ro_view',
    option: { name: 'ro_view', text: 'ro_view=' },
    writable: false,
    isVariant: true,
    hasView: true,
  }),
  tsfs({
    name: 'tsfs-no-hot-table',
    option: { name: 'hot_table', text: 'no_hot_table' },
    writable: true,
    isVariant: true,
  }),
  tsfs({ name: 'tsfs-portable', option: { name: 'driver', text: 'driver=portable' }, writable: true, isVariant: true }),
];
