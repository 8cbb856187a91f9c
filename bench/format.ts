/** Numbers as people read them. */
import { formatMs } from '../scripts/lib/table.ts';
import type { ResultCell } from './results.ts';
import { spread } from './statistics.ts';
import type { Unit } from './suite.ts';

const SIGNIFICANT_DIGITS = 3;
const NUMBER = new Intl.NumberFormat('en-US', { maximumSignificantDigits: SIGNIFICANT_DIGITS });

export function formatNumber(value: number): string {
  return NUMBER.format(value);
}

export function formatValue(value: number, unit: Unit): string {
  if (unit === 'ms') return formatMs(value);
  return unit === '×' ? `${formatNumber(value)} ×` : `${formatNumber(value)} ${unit}`;
}

/** `±4%` */
export function formatSpread(cell: ResultCell): string {
  return cell.samples.length > 1 ? `±${(spread(cell) * 100).toFixed(0)}%` : '';
}
