/** The one place where rows of `nodes` become objects, and the other way round. */
import type { Timespec } from '../base/clock.ts';
import type { ContentId, NodeId } from '../base/ids.ts';
import type { NodeExtras, NodeFields, NodeKind, NodeRow } from './contract.ts';

export const KIND_CODES = { file: 0, directory: 1, symlink: 2 } as const satisfies Record<NodeKind, number>;
const KINDS: readonly NodeKind[] = ['file', 'directory', 'symlink'];

/** As SQLite returns it. */
export interface NodeRecord {
  readonly id: number;
  readonly parent: number | null;
  readonly name: string;
  readonly kind: number;
  readonly size_bytes: number;
  readonly mode: number | null;
  readonly uid: number | null;
  readonly gid: number | null;
  readonly mtime_sec: number;
  readonly mtime_nsec: number;
  readonly ctime_sec: number | null;
  readonly ctime_nsec: number | null;
  readonly atime_sec: number | null;
  readonly atime_nsec: number | null;
  readonly complete: number;
  readonly dirty: number;
  readonly validated_at_ms: number;
  readonly listed_at_ms: number;
  readonly last_modified_ms: number | null;
  readonly content: number | null;
  readonly etag: string | null;
  readonly marker: string | null;
  readonly md5: string | null;
  readonly target: string | null;
  readonly extras: string | null;
}

/** Columns that a node keeps when it moves, in the order of `toValues`. */
export const VALUE_COLUMNS = [
  'kind',
  'size_bytes',
  'mode',
  'uid',
  'gid',
  'mtime_sec',
  'mtime_nsec',
  'ctime_sec',
  'ctime_nsec',
  'atime_sec',
  'atime_nsec',
  'complete',
  'dirty',
  'validated_at_ms',
  'listed_at_ms',
  'last_modified_ms',
  'content',
  'etag',
  'marker',
  'md5',
  'target',
  'extras',
] as const satisfies readonly (keyof NodeRecord)[];

export function toValues(fields: Omit<NodeFields, 'parent' | 'name'>): (string | number | null)[] {
  return [
    KIND_CODES[fields.kind],
    fields.sizeBytes,
    fields.mode ?? null,
    fields.uid ?? null,
    fields.gid ?? null,
    fields.mtime.sec,
    fields.mtime.nsec,
    fields.ctime?.sec ?? null,
    fields.ctime?.nsec ?? null,
    fields.atime?.sec ?? null,
    fields.atime?.nsec ?? null,
    fields.complete ? 1 : 0,
    fields.dirty ? 1 : 0,
    fields.validatedAtMs,
    fields.listedAtMs,
    fields.lastModifiedMs ?? null,
    fields.content ?? null,
    fields.etag ?? null,
    fields.marker ?? null,
    fields.md5 ?? null,
    fields.target ?? null,
    fields.extras === undefined ? null : JSON.stringify(fields.extras),
  ];
}

export function toRow(record: NodeRecord): NodeRow {
  return {
    id: record.id as NodeId,
    parent: (record.parent as NodeId | null) ?? undefined,
    name: record.name,
    kind: KINDS[record.kind] ?? 'file',
    sizeBytes: record.size_bytes,
    mode: record.mode ?? undefined,
    uid: record.uid ?? undefined,
    gid: record.gid ?? undefined,
    mtime: { sec: record.mtime_sec, nsec: record.mtime_nsec },
    ctime: toTimespec(record.ctime_sec, record.ctime_nsec),
    atime: toTimespec(record.atime_sec, record.atime_nsec),
    complete: record.complete === 1,
    dirty: record.dirty === 1,
    validatedAtMs: record.validated_at_ms,
    listedAtMs: record.listed_at_ms,
    lastModifiedMs: record.last_modified_ms ?? undefined,
    content: (record.content as ContentId | null) ?? undefined,
    etag: record.etag ?? undefined,
    marker: record.marker ?? undefined,
    md5: record.md5 ?? undefined,
    target: record.target ?? undefined,
    extras: record.extras === null ? undefined : (JSON.parse(record.extras) as NodeExtras),
  };
}

function toTimespec(sec: number | null, nsec: number | null): Timespec | undefined {
  return sec === null || nsec === null ? undefined : { sec, nsec };
}
