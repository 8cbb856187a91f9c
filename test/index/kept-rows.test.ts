/** Rows that are kept in memory are those of the database, whatever happened: compared with a reader that keeps none. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type NodeId, ROOT_NODE_ID } from '../../src/base/ids.ts';
import { silentLogger } from '../../src/base/log.ts';
import { NOTHING_KNOWN } from '../../src/fs/new-node.ts';
import type { Index, ListedName, NodeTable } from '../../src/index/contract.ts';
import { openIndex } from '../../src/index/open.ts';
import { openIndexReader } from '../../src/index/reader.ts';

const NAMES = ['a', 'b', 'c'];
const FILE = {
  ...NOTHING_KNOWN,
  sizeBytes: 1,
  mtime: { sec: 1, nsec: 0 },
  etag: 'v0',
  lastModifiedMs: 1000,
};

/** `pick`, `to`: positions among the rows that are there; `at`: a time, which also tells versions apart. */
interface Step {
  readonly kind: 'insert' | 'update' | 'move' | 'detach' | 'remove' | 'list' | 'sweep' | 'fail';
  readonly pick: number;
  readonly to: number;
  readonly name: string;
  readonly at: number;
}

const steps = fc.array(
  fc.record<Step>({
    kind: fc.constantFrom('insert', 'insert', 'update', 'move', 'detach', 'remove', 'list', 'sweep', 'fail'),
    pick: fc.nat(30),
    to: fc.nat(30),
    name: fc.constantFrom(...NAMES),
    at: fc.nat(20),
  }),
  { minLength: 5, maxLength: 60 },
);

function apply(index: Index, step: Step): void {
  const { nodes } = index;
  const ids = idsOf(nodes);
  const id = at(ids, step.pick);
  const directories = ids.filter((each) => nodes.get(each)?.kind === 'directory');
  const parent = at(directories, step.to);
  const isFree = nodes.child(parent, step.name) === undefined;
  const kind = step.at % 3 === 0 ? 'directory' : 'file';
  if (step.kind === 'insert' && isFree)
    nodes.insert({ ...FILE, parent, kind, name: step.name, validatedAtMs: step.at });
  else if (step.kind === 'update') nodes.update(id, { sizeBytes: step.at, etag: `v${step.at % 3}` });
  else if (step.kind === 'list') nodes.applyListing(parent, listing(step), step.at);
  else if (step.kind === 'sweep') nodes.sweep(parent, step.at, 0);
  else if (id === ROOT_NODE_ID) return;
  else if (step.kind === 'move' && isFree && nodes.get(id)?.kind === 'file') nodes.move(id, parent, step.name);
  else if (step.kind === 'detach') nodes.detach(id);
  else if (step.kind === 'remove') nodes.remove(id);
}

function listing({ name, at: version }: Step): ListedName[] {
  const others = NAMES.filter((each) => each !== name);
  const files = others.map(
    (each): ListedName => ({
      kind: 'file',
      name: each,
      sizeBytes: version,
      etag: `v${version % 3}`,
      lastModifiedMs: version * 1000,
    }),
  );
  return [{ kind: 'directory', name }, ...files];
}

function idsOf(nodes: NodeTable): NodeId[] {
  const ids = Array.from({ length: nodes.lastId() }, (_, i) => (i + 1) as NodeId);
  return ids.filter((id) => nodes.get(id) !== undefined);
}

function at<T>(list: readonly T[], position: number): T {
  return list[position % list.length] as T;
}

it('whatever is written, and taken back', async () => {
  const root = await mkdtemp(join(tmpdir(), 'tsfs-kept-'));
  try {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(steps, async (list) => {
        run += 1;
        const path = join(root, String(run), 'index.db');
        const index = openIndex({ path, log: silentLogger });
        const reader = openIndexReader(path);
        try {
          for (const step of list) {
            if (step.kind !== 'fail') apply(index, step);
            else {
              const failure = new Error('taken back');
              const attempt = () =>
                index.transaction(() => {
                  apply(index, { ...step, kind: 'update' });
                  apply(index, { ...step, kind: 'insert' });
                  // Whoever reads within the transaction sees what never was.
                  idsOf(index.nodes);
                  throw failure;
                });
              expect(attempt).toThrow(failure);
            }
            for (let id = 1; id <= index.nodes.lastId(); id += 1) {
              expect(index.nodes.get(id as NodeId)).toEqual(reader.nodes.get(id as NodeId));
            }
          }
        } finally {
          reader.close();
          await index.close();
        }
      }),
      { numRuns: 30 },
    );
  } finally {
    await rm(root, { recursive: true });
  }
});
