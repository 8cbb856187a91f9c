/** How a file becomes the parts of a multipart upload. Pure. */
import type { Extent } from '../base/extents.ts';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
/** S3: 1 … 10,000 parts, each 5 MiB … 5 GiB, the last one may be shorter. */
export const PARTS_MAX = 10_000;
export const PART_MIN_BYTES = 5 * MIB;
export const COPY_MAX_BYTES = 5 * GIB;
/** Copies are split so that several run at once: one request copies at the speed of one disk of the store. */
export const COPY_PART_BYTES = 512 * MIB;

export interface Part {
  readonly partNumber: number;
  readonly kind: 'upload' | 'copy';
  readonly offset: number;
  readonly lengthBytes: number;
}

function numbered(parts: readonly Omit<Part, 'partNumber'>[]): Part[] {
  return parts.map((part, index) => ({ ...part, partNumber: index + 1 }));
}

function split(kind: Part['kind'], start: number, end: number, partBytes: number): Omit<Part, 'partNumber'>[] {
  const parts: Omit<Part, 'partNumber'>[] = [];
  for (let offset = start; offset < end; offset += partBytes) {
    parts.push({ kind, offset, lengthBytes: Math.min(partBytes, end - offset) });
  }
  return parts;
}

/** Everything is uploaded. */
export function planUpload(sizeBytes: number, partSizeBytes: number): Part[] {
  const partBytes = Math.max(partSizeBytes, PART_MIN_BYTES, roundUp(sizeBytes / PARTS_MAX, MIB));
  return numbered(split('upload', 0, sizeBytes, partBytes));
}

/** Everything is copied. */
export function planCopy(sizeBytes: number): Part[] {
  return numbered(split('copy', 0, sizeBytes, Math.max(COPY_PART_BYTES, roundUp(sizeBytes / PARTS_MAX, MIB))));
}

/**
 * Only the neighbourhood of changes is uploaded. The file is divided into cells of the smallest size that a part may have, so
 * every run of cells is a valid part: runs with a change are uploaded, runs without are copied.
 */
export function planPatch(
  sizeBytes: number,
  baseSizeBytes: number,
  changed: readonly Extent[],
  partSizeBytes: number,
): Part[] {
  const cellBytes = Math.max(PART_MIN_BYTES, roundUp(sizeBytes / PARTS_MAX, MIB));
  const cells = Math.ceil(sizeBytes / cellBytes);
  const isChanged = new Uint8Array(cells);
  const mark = (start: number, end: number) => {
    if (end > start) isChanged.fill(1, Math.floor(start / cellBytes), Math.ceil(end / cellBytes));
  };
  for (const extent of changed) mark(Math.min(extent.start, sizeBytes), Math.min(extent.end, sizeBytes));
  mark(Math.min(baseSizeBytes, sizeBytes), sizeBytes);

  const parts: Omit<Part, 'partNumber'>[] = [];
  for (let first = 0, end = 0; first < cells; first = end) {
    while (end < cells && isChanged[end] === isChanged[first]) end += 1;
    const kind = isChanged[first] === 1 ? 'upload' : 'copy';
    const wantedBytes = kind === 'copy' ? COPY_PART_BYTES : partSizeBytes;
    // Whole cells: the rest of a split must not be smaller than a part may be.
    const partBytes = Math.max(1, Math.floor(wantedBytes / cellBytes)) * cellBytes;
    parts.push(...split(kind, first * cellBytes, Math.min(end * cellBytes, sizeBytes), partBytes));
  }
  return numbered(parts);
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
