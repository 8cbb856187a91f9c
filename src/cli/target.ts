/** Which mount is meant by `pending`, `recover` and `fsck`: they work on what it left, with or without a daemon. */
import { resolve } from 'node:path';
import type { MountConfig } from '../mount/config.ts';
import { baseDirectories } from '../mount/directories.ts';
import { EXIT, MountError } from '../mount/errors.ts';
import { realName } from '../mount/preflight.ts';
import { findStates, stateOf } from '../mount/states.ts';
import type { Host } from './host.ts';
import { parseOptions, type RawOption } from './parse-options.ts';
import { resolveConfig } from './resolve.ts';
import { parseSource } from './source.ts';

export interface TargetArguments {
  /** BUCKET[:/PREFIX], or the directory where it is or was mounted. */
  readonly word: string | undefined;
  readonly stateDirectory: string | undefined;
  readonly options: readonly RawOption[];
}

/**
 * The configuration of that mount, as it was mounted last. Options that are given now replace those that concern the store and the transfers, all
 * together. Rejects with a MountError when there is none, or when several are meant.
 */
export async function findTarget(args: TargetArguments, host: Host): Promise<MountConfig> {
  const { values } = parseOptions(args.options, process.cwd());
  const base = values.state_dir ?? baseDirectories(host.uid, host.environment).state;
  const saved =
    args.stateDirectory === undefined ? await theOne(args.word, base) : await stateOf(resolve(args.stateDirectory));
  if (args.options.every(({ name }) => name === 'state_dir')) return saved;
  const given = await resolveConfig(parseSource(saved.source), saved.mountpoint, values, {
    ...host,
    foreground: false,
  });
  return { ...saved, store: given.store, objects: given.objects, transfer: given.transfer };
}

async function theOne(word: string | undefined, base: string): Promise<MountConfig> {
  if (word === undefined) throw new MountError('Say which: a bucket, or the directory of its mount.', EXIT.usage);
  const path = await realName(resolve(word)).catch(() => resolve(word));
  const found = await findStates(base, ({ source, mountpoint }) => source === word || mountpoint === path);
  const [first, ...others] = found;
  if (first === undefined) {
    throw new MountError(`No mount of ${word} has left anything in ${base}; see -o state_dir= and --state-dir.`);
  }
  if (others.length === 0) return first;
  const places = found.map(({ mountpoint }) => mountpoint).join(', ');
  throw new MountError(`${word} was mounted in several places: say which of them (${places}).`, EXIT.usage);
}
