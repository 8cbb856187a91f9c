import { expect, test } from 'vitest';
import type { ContentId, NodeId } from '../../src/base/ids.ts';
import type { FsContext } from '../../src/fs/context.ts';
import { HotFiles } from '../../src/fs/hot-files.ts';
import { OpenFiles } from '../../src/fs/open-files.ts';
import type { Tree } from '../../src/fs/tree.ts';
import type { HotNode, HotNodes, ReadReply } from '../../src/kernel/contract.ts';

const ID = 7 as NodeId;
const HOUR_MS = 3_600_000;
const ROW = {
  id: ID,
  kind: 'file',
  complete: true,
  dirty: false,
  parent: 1,
  etag: 'e',
  content: 3 as ContentId,
  sizeBytes: 10,
};

test('a file that is always in use comes back once an hour, so that the cache looks at what is on its disk', () => {
  let nowMs = 0;
  const published: (number | undefined)[] = [];
  let withdrawn = 0;
  const driver: Pick<HotNodes, 'publish' | 'withdraw'> = {
    publish: (_id: NodeId, { fd }: HotNode) => {
      published.push(fd);
      return true;
    },
    withdraw: () => {
      withdrawn += 1;
      return 0;
    },
  };
  const context = {
    index: { nodes: { get: () => ROW } },
    cache: { touch: () => undefined },
    clock: { monotonicMs: () => nowMs },
  } as unknown as FsContext;
  const tree = { attributesOf: () => ({}) } as unknown as Tree;
  const files = new HotFiles(context, tree, new OpenFiles(() => undefined), () => 60_000);
  files.connect(driver as HotNodes);
  const read = (fd: number) => {
    const hot = files.find(ID);
    const reply: ReadReply = { kind: 'file', fd, offset: 0, lengthBytes: 10, release: () => undefined };
    if (hot !== undefined) files.noteRead(hot, 0, reply);
  };
  files.offer(ID);
  read(5);
  expect(published).toEqual([undefined, 5]);
  for (nowMs = 20_000; nowMs < HOUR_MS; nowMs += 20_000) {
    files.offer(ID);
    read(6);
  }
  expect(withdrawn).toBe(0);
  expect(published).not.toContain(6);
  files.offer(ID);
  expect(withdrawn).toBe(1);
  read(6);
  expect(published.at(-1)).toBe(6);
});
