/** Cached blocks against their checksums, whole cached objects against the ETags of their versions. */
import { createHash } from 'node:crypto';
import { read } from 'node:fs';
import { promisify } from 'node:util';
import type { ContentId } from '../base/ids.ts';
import type { CacheFinding, FileSlice } from '../cache/contract.ts';
import type { NodeRow } from '../index/contract.ts';
import { allRows } from '../index/pages.ts';
import { pathOf } from '../index/path.ts';
import type { IndexReader } from '../index/reader.ts';
import { isStoreError, type ObjectStore } from '../store/contract.ts';
import type { FsckScene } from './fsck-scene.ts';

const readAt = promisify(read);

const PIECE_BYTES = 1024 * 1024;

const REPAIR = 'forgets it; the bucket is asked again when somebody reads it';

export async function checkCache(scene: FsckScene, reader: IndexReader, store: ObjectStore): Promise<void> {
  const { cache } = scene.layers;
  scene.onProgress('reading the cache');
  const unsound = new Set<ContentId>();
  await cache.verify({
    repair: scene.isRepairing,
    onFinding: (finding) => {
      if (finding.kind !== 'stray') unsound.add(finding.content);
      scene.onFinding({ area: 'cache', ...describe(finding, reader) });
    },
  });
  // Encrypted objects have ETags that tell nothing.
  const encryption = scene.config.objects.encryption?.kind ?? 'store';
  if (encryption !== 'store') return;
  for (const row of allRows(reader.files, ({ id }) => id)) {
    const isSound = row.content !== undefined && !unsound.has(row.content);
    if (isSound && (await isAnotherContent(scene, row, store))) report(scene, reader, row);
  }
}

function describe(finding: CacheFinding, reader: IndexReader) {
  if (finding.kind === 'stray') return { text: `the file ${finding.path} belongs to nothing`, repair: 'removes it' };
  const owner = reader.ownerOf(finding.content);
  const path = owner && pathOf(reader.nodes, owner.id);
  return { path, text: textOf(finding), repair: REPAIR };
}

function textOf(finding: Exclude<CacheFinding, { kind: 'stray' }>): string {
  switch (finding.kind) {
    case 'damaged':
      return `${finding.blocks} blocks of cache file ${finding.content} are damaged`;
    case 'vanished':
      return `cache file ${finding.content} is gone`;
    case 'nonsense':
      return `what is noted of cache file ${finding.content} cannot be true`;
  }
}

/** The blocks are as they were written; were they the right ones? Only an ETag that is an MD5 can tell. */
async function isAnotherContent(scene: FsckScene, row: NodeRow, store: ObjectStore): Promise<boolean> {
  const { index, cache } = scene.layers;
  const md5 = /^[0-9a-f]{32}$/i.exec(row.etag ?? '')?.[0].toLowerCase();
  if (md5 === undefined || row.content === undefined || row.dirty) return false;
  if (index.contents.get(row.content)?.sizeBytes !== row.sizeBytes) return false;
  const content = await cache.open(row.content, row.sizeBytes);
  try {
    const slice = content.isComplete ? await content.slice(0, row.sizeBytes) : undefined;
    if (slice === undefined) return false;
    const digest = await digestOf(piecesOf(slice)).finally(slice.release);
    return digest !== md5 && digest !== (await digestInBucket(scene, row, store));
  } finally {
    content.close();
  }
}

/** Where a bucket encrypts by itself with a key of its own, ETags look like MD5s and are none. undefined: the version is gone. */
async function digestInBucket(scene: FsckScene, row: NodeRow, store: ObjectStore): Promise<string | undefined> {
  const path = pathOf(scene.layers.index.nodes, row.id);
  if (path === undefined || row.etag === undefined) return undefined;
  try {
    const { body } = await store.get(scene.config.prefix + path, { ifMatch: row.etag });
    return await digestOf(body);
  } catch (error) {
    if (isStoreError(error, 'NotFound', 'PreconditionFailed')) return undefined;
    throw error;
  }
}

async function digestOf(pieces: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash('md5');
  for await (const bytes of pieces) hash.update(bytes);
  return hash.digest('hex');
}

async function* piecesOf({ fd, lengthBytes }: FileSlice): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.allocUnsafeSlow(PIECE_BYTES);
  for (let offset = 0; offset < lengthBytes; ) {
    const { bytesRead } = await readAt(fd, buffer, 0, Math.min(PIECE_BYTES, lengthBytes - offset), offset);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
    offset += bytesRead;
  }
}

function report(scene: FsckScene, reader: IndexReader, row: NodeRow): void {
  const path = pathOf(reader.nodes, row.id);
  const text = 'what is cached is not what the ETag of its version names';
  scene.onFinding({ area: 'cache', path, text, repair: REPAIR });
  if (!scene.isRepairing || row.content === undefined) return;
  scene.layers.index.nodes.update(row.id, { content: undefined });
  scene.layers.cache.remove(row.content);
}
