/** What is pending in words: one line for each change. */
import type { PendingChange, PendingList } from '../mount/pending.ts';
import { duration, size } from './status-text.ts';
import { printable } from './terminal.ts';

const WORDS: Readonly<Record<string, string>> = { renameTree: 'rename', kept: 'kept' };

export function pendingText({ changes, count }: PendingList, nowMs: number): string {
  if (count === 0) return 'The bucket has everything.';
  const lines = changes.map((change) => line(change, nowMs));
  const rest = count - changes.length;
  const more = rest > 0 ? [`… and ${rest} more`] : [];
  const kept = changes.some(({ kind }) => kind === 'kept')
    ? ['What is kept in lost+found is not sent by itself: see tsfs recover --export.']
    : [];
  return [...lines, ...more, count === 1 ? '1 change is pending.' : `${count} changes are pending.`, ...kept].join(
    '\n',
  );
}

function line(change: PendingChange, nowMs: number): string {
  const { kind, path, toPath, wasPath, sizeBytes, sinceMs, error } = change;
  const name = kind === 'kept' ? `lost+found/${path}` : `/${path}`;
  const to = toPath === undefined ? '' : ` to /${toPath}`;
  const facts = [
    ...(wasPath === undefined ? [] : [`was /${wasPath}`]),
    ...(sizeBytes === undefined ? [] : [size(sizeBytes)]),
    `since ${duration(nowMs - sinceMs)}`,
    ...(error === undefined ? [] : [`last: ${error}`]),
  ];
  return printable(`${(WORDS[kind] ?? kind).padEnd(8)} ${name}${to} (${facts.join('; ')})`);
}
