import { type NodeId, ROOT_NODE_ID } from '../base/ids.ts';
import type { NodeTable } from './contract.ts';

/** Deeper than any key of 1024 bytes can be: a longer chain is a damaged index. */
const MAX_DEPTH = 1024;

/** `a/b` from the root of the mount, '' for the root itself; undefined when the node, or a directory above it, has no name. */
export function pathOf(nodes: Pick<NodeTable, 'get'>, id: NodeId): string | undefined {
  const names: string[] = [];
  for (let position = id; position !== ROOT_NODE_ID; ) {
    const row = nodes.get(position);
    if (row?.parent === undefined || names.length > MAX_DEPTH) return undefined;
    names.push(row.name);
    position = row.parent;
  }
  return names.reverse().join('/');
}
