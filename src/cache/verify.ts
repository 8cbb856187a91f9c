/** Looks through a whole cache: blocks against their checksums, files against the index. */
import { rm } from 'node:fs/promises';
import type { ContentId } from '../base/ids.ts';
import type { ContentRow, ContentTable } from '../index/contract.ts';
import { blockCount } from './blocks.ts';
import type { Content } from './content.ts';
import type { CacheFinding, CacheVerdict, VerifyOptions } from './contract.ts';
import { strayFiles } from './sweep.ts';

/** Ids asked for at once. */
const PAGE = 1000;

export interface VerifyEnvironment extends VerifyOptions {
  readonly directory: string;
  readonly contents: ContentTable;
  readonly isKnown: (id: ContentId) => boolean;
  /** Keeps the content of the row in memory until the work is done. */
  readonly using: <T>(row: ContentRow, work: (content: Content) => Promise<T>) => Promise<T>;
  readonly drop: (row: ContentRow) => Promise<void>;
}

export async function verify(environment: VerifyEnvironment): Promise<CacheVerdict> {
  const { contents, repair, signal = new AbortController().signal } = environment;
  const verdict = { contents: 0, blocks: 0, bytes: 0, findings: 0 };
  const report = (finding: CacheFinding) => {
    verdict.findings += 1;
    environment.onFinding(finding);
  };
  for (let after = 0, ids = contents.ids(after, PAGE); ids.length > 0; ids = contents.ids(after, PAGE)) {
    for (const id of ids) {
      signal.throwIfAborted();
      after = id;
      const row = contents.get(id);
      if (row === undefined) continue; // Evicted meanwhile.
      verdict.contents += 1;
      if (row.checksums.length !== blockCount(row.sizeBytes)) {
        report({ kind: 'nonsense', content: id });
        if (repair) await environment.drop(row);
        continue;
      }
      const found = await environment.using(row, (content) => content.verify(repair, signal));
      verdict.blocks += found.blocks;
      verdict.bytes += found.bytes;
      if (found.damaged > 0) {
        report({ kind: found.isFileGone ? 'vanished' : 'damaged', content: id, blocks: found.damaged });
      }
    }
  }
  for await (const path of strayFiles({ ...environment, signal })) {
    report({ kind: 'stray', path });
    if (repair) await rm(path, { force: true });
  }
  signal.throwIfAborted();
  return verdict;
}
