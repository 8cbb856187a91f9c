/** A mount's state in words. */
import type { MountStatus } from '../mount/status.ts';
import { printable } from './terminal.ts';

/** A mount whose daemon does not tell: it ended, hangs, or belongs to somebody else. */
export interface SilentMount {
  readonly source: string;
  readonly mountpoint: string;
  readonly state: 'dead' | 'silent';
  readonly reason: string;
}

export type FoundMount = MountStatus | SilentMount;

export function isAnswering(mount: FoundMount): mount is MountStatus {
  return mount.state !== 'dead' && mount.state !== 'silent';
}

export function describeMount(mount: FoundMount, nowMs: number): string {
  const head = `${mount.source} on ${mount.mountpoint}: ${mount.state}`;
  if (!isAnswering(mount)) return `${head}\n  ${mount.reason}`;
  const rows = describeRows(mount, nowMs).map(([name, text]) => `  ${name.padEnd(9)} ${printable(text)}`);
  return [`${head} for ${duration(nowMs - mount.startedAtMs)}${mount.readOnly ? ', read-only' : ''}`, ...rows].join(
    '\n',
  );
}

function describeRows(mount: MountStatus, nowMs: number): [string, string][] {
  const { pending, cache, store } = mount;
  const rows: [string, string][] = [
    ['endpoint', mount.endpoint],
    ...storeRow(mount.store, nowMs),
    ['pending', `${pending.files} files, ${pending.intents} renames and deletes${because(pending.lastError)}`],
    ['cache', `${size(cache.bytes)} of ${size(cache.limitBytes)} in ${cache.directory}`],
    ['index', `${mount.index.nodes} names in ${mount.stateDirectory}`],
    ['requests', requestsText(store)],
    ['daemon', `pid ${mount.pid}, tsfs ${mount.version}${guardianText(mount)}`],
  ];
  if (cache.damagedBlocks > 0) rows.push(['damaged', `${cache.damagedBlocks} cached blocks were fetched again`]);
  if (mount.skippedKeys > 0) rows.push(['skipped', `${mount.skippedKeys} keys that cannot be file names`]);
  return rows;
}

/** Says nothing while all is well. A daemon of another version may not tell. */
function storeRow({ health }: Partial<MountStatus['store']>, nowMs: number): [string, string][] {
  if (health === undefined || health.state === 'ok') return [];
  const advice = health.lastError === undefined ? '' : ` (${health.lastError.kind}): ${health.lastError.advice}`;
  return [['store', `${health.state} for ${duration(nowMs - health.sinceMs)}${advice}`]];
}

function requestsText({ operations, errors }: MountStatus['store']): string {
  const counts = Object.entries(operations).map(([name, { count }]) => [name, count] as const);
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  const failed = Object.values(errors).reduce((sum, count) => sum + count, 0);
  const parts = counts.map(([name, count]) => `${name} ${count}`).join(', ');
  return `${total}${parts === '' ? '' : ` (${parts})`}, ${failed} without success`;
}

/** A daemon of another version, started before an upgrade, may not tell of a guardian. */
function guardianText({ guardian }: Partial<Pick<MountStatus, 'guardian'>>): string {
  if (guardian?.pid === undefined) return ', no guardian';
  const text = `, guardian pid ${guardian.pid}`;
  if (guardian.restarts === 0) return text;
  return `${text}, worker replaced ${guardian.restarts} times${because(guardian.lastRestart)}`;
}

function because(error: string | undefined): string {
  return error === undefined ? '' : ` (last: ${error})`;
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** `1.5 GiB`. */
export function size(bytes: number): string {
  const power = bytes < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[power]}`;
}

/** `3 d 4 h`: the two largest units. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  const shown = first < 0 ? parts.slice(-1) : parts.slice(first, first + 2);
  return shown.map(([count, unit]) => `${count} ${unit}`).join(' ');
}
