/** The options of a mount that is there, some of them replaced. */
import { isDeepStrictEqual } from 'node:util';
import type { MountConfig } from '../mount/config.ts';
import { EXIT, MountError } from '../mount/errors.ts';
import type { MountJob } from '../mount/job.ts';
import type { Host } from './host.ts';
import type { OptionValues } from './options.ts';
import { resolveConfig } from './resolve.ts';
import { parseSource } from './source.ts';

type Fields = Readonly<Record<string, unknown>>;

/**
 * The job with `given` over the options that the mount has. Rejects with a MountError that names those which cannot change while it is mounted.
 *
 * A configuration also depends on who resolves it, and where (keys in the environment, home directory, size of the disk). So both are resolved
 * here, with the options as they were and as they shall be, and the configuration of the mount changes only where these differ.
 */
export async function changedJob(job: MountJob, given: OptionValues, user: Host): Promise<MountJob> {
  // Our own `mount` wrote them.
  const options = job.options as OptionValues | undefined;
  if (options === undefined) throw new MountError(UNKNOWN_OPTIONS);
  const resolved = (values: OptionValues) => resolve(job.config, { ...options, ...values }, user);
  const before = await resolved({});
  const refused: string[] = [];
  for (const [name, value] of Object.entries(given)) {
    if (!isDeepStrictEqual(fixed(await resolved({ [name]: value })), fixed(before))) refused.push(name);
  }
  if (refused.length > 0) throw new MountError(refusal(refused), EXIT.usage);
  const config = withChanges(job.config, before, await resolved(given));
  return { ...job, config, options: { ...options, ...given } };
}

const UNKNOWN_OPTIONS =
  'An earlier version made this mount and did not note its options: unmount it, and mount it with the new ones.';

/** As it is once it was read from a file: without what is undefined. */
async function resolve(config: MountConfig, values: OptionValues, user: Host): Promise<MountConfig> {
  const source = parseSource(values.bucket ?? config.source);
  const circumstances = { ...user, foreground: config.log.file === undefined };
  const resolved = await resolveConfig(source, config.mountpoint, values, circumstances);
  return JSON.parse(JSON.stringify(resolved)) as MountConfig;
}

/** What the kernel was told when it mounted, and where things are. (The directory of state and cache is named after the `url`, too.) */
function fixed(config: MountConfig): unknown {
  const { source, viewMountpoint, stateDirectory, cache, kernel } = config;
  const { hotTable: _, ...agreed } = kernel;
  return { source, viewMountpoint, stateDirectory, cacheDirectory: cache.directory, agreed };
}

function refusal(names: readonly string[]): string {
  const subject = names.length === 1 ? `The option ${names[0]}` : `The options ${names.join(', ')}`;
  return `${subject} cannot change while the bucket is mounted: unmount it, and mount it with the new options.`;
}

function withChanges(config: MountConfig, before: MountConfig, after: MountConfig): MountConfig {
  const [old, from, to] = [config, before, after] as unknown as [Fields, Fields, Fields];
  const sections = Object.keys(to).filter((name) => typeof to[name] === 'object');
  const inside = sections.map((name) => {
    const [values, earlier, later] = [old[name], from[name], to[name]] as [Fields, Fields, Fields];
    return [name, replaced(values, earlier, later)];
  });
  return { ...replaced(old, from, to), ...Object.fromEntries(inside) } as unknown as MountConfig;
}

/** `values`, but with those of `to` where they are not those of `from`. */
function replaced(values: Fields, from: Fields, to: Fields): Fields {
  const differing = Object.keys({ ...from, ...to }).filter((name) => !isDeepStrictEqual(from[name], to[name]));
  const changes = Object.fromEntries(differing.map((name) => [name, to[name]]));
  return Object.fromEntries(Object.entries({ ...values, ...changes }).filter(([, value]) => value !== undefined));
}
