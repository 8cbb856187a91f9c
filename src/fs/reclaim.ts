/** Staging files whose nodes went with a lost index get nodes again, so that their content still reaches the bucket under its name. */
import { timespecFromMs } from '../base/clock.ts';
import { type NodeId, ROOT_NODE_ID } from '../base/ids.ts';
import type { NodeFields, NodeRow } from '../index/contract.ts';
import type { Stray } from '../journal/contract.ts';
import { isStoreError } from '../store/contract.ts';
import type { FsContext } from './context.ts';
import { errnoOf, isOutage } from './errors.ts';
import { checkKey } from './names.ts';
import { NOTHING_KNOWN } from './new-node.ts';

/** Before anybody looks at a name. What cannot be brought to the bucket is set aside and logged, never dropped. */
export async function reclaimStrays(context: FsContext): Promise<void> {
  const { journal, log } = context;
  for (const stray of journal.strays()) {
    const obstacle = (await obstacleInBucket(context, stray)) ?? obstacleHere(context, stray.path);
    if (obstacle !== undefined) {
      await journal.setAside(stray, obstacle);
      continue;
    }
    await journal.adopt(stray, giveNode(context, stray));
    log.warn({ path: stray.path }, 'a changed file that the index did not know is brought to the bucket');
  }
}

/** What is laid over an old version is worth nothing without that. */
async function obstacleInBucket({ store, options }: FsContext, stray: Stray): Promise<string | undefined> {
  if (stray.isComplete) return undefined;
  try {
    const { etag } = await store.head(options.rootPrefix + stray.path);
    return etag === stray.node.etag ? undefined : 'the version that it changes was replaced in the bucket';
  } catch (error) {
    if (isStoreError(error, 'NotFound')) return 'the version that it changes is no longer in the bucket';
    // The upload will tell, and be tried again.
    if (isOutage(error)) return undefined;
    throw error;
  }
}

function obstacleHere({ index, options }: FsContext, path: string): string | undefined {
  const names = path.split('/');
  let position: NodeRow | undefined = index.nodes.get(ROOT_NODE_ID);
  for (const [depth, name] of names.entries()) {
    try {
      checkKey(name, options.rootPrefix + path);
    } catch (error) {
      return `its name is none (error ${errnoOf(error)})`;
    }
    position = position && index.nodes.child(position.id, name);
    const isLast = depth === names.length - 1;
    if (position === undefined) continue;
    if (!isLast && position.kind !== 'directory') return `there is a file ${names.slice(0, depth + 1).join('/')}`;
    if (isLast && (position.kind !== 'file' || position.dirty)) return 'its name is in use';
  }
  return undefined;
}

function giveNode({ index, clock }: FsContext, stray: Stray): NodeId {
  const names = stray.path.split('/');
  const name = names.pop() ?? '';
  return index.transaction(() => {
    let parent = ROOT_NODE_ID;
    for (const directory of names) {
      parent = (index.nodes.child(parent, directory) ?? index.nodes.insert(directoryRow(parent, directory))).id;
    }
    const known = index.nodes.child(parent, name);
    if (known !== undefined) index.nodes.detach(known.id);
    return index.nodes.insert({ ...fileFields(stray, clock.stampMs()), parent, name }).id;
  });
}

/** JSON has no undefined: what a row left out is filled in again. The time is that of the last write. */
function fileFields(stray: Stray, stampMs: number): Omit<NodeFields, 'parent' | 'name'> {
  const { node } = stray;
  const written = timespecFromMs(Math.floor(stray.mtimeMs));
  return {
    ...NOTHING_KNOWN,
    ...node,
    kind: 'file',
    mtime: written.sec > node.mtime.sec ? written : node.mtime,
    content: undefined,
    md5: undefined,
    complete: true,
    validatedAtMs: stampMs,
    dirty: true,
  };
}

/** Asked for when somebody looks: it may have a marker, or vanish with its entries. */
function directoryRow(parent: NodeId, name: string): NodeFields {
  return { ...NOTHING_KNOWN, kind: 'directory', mtime: { sec: 0, nsec: 0 }, parent, name };
}
