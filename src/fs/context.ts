/**
 * The file system: operations on nodes, one file for each family, all over the same parts. It turns names into keys, decides what the
 * bucket must be asked, and keeps the promises of POSIX that an object store does not make by itself. It knows no SQL, no SDK types and no
 * wire bytes; it is testable without FUSE, because its operations are plain methods.
 */
import type { StampClock } from '../base/clock.ts';
import type { NodeId } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';
import type { BlockCache } from '../cache/contract.ts';
import type { Beliefs } from '../freshness/beliefs.ts';
import type { Index } from '../index/contract.ts';
import type { Journal } from '../journal/contract.ts';
import type { Notifier } from '../kernel/contract.ts';
import type { ObjectAttributes, ObjectStore } from '../store/contract.ts';
import type { Downloader, Mover, Uploader } from '../transfer/contract.ts';

export interface FsOptions {
  /** '' or 'a/b/': keys of this mount begin with it. */
  readonly rootPrefix: string;
  /** What makes inode numbers of two buckets differ, the same on every server: endpoint and bucket. */
  readonly bucketIdentity: string;
  /** For objects that say nothing about themselves. */
  readonly defaults: {
    readonly uid: number;
    readonly gid: number;
    readonly fileMode: number;
    readonly directoryMode: number;
    readonly rootMode: number;
  };
  readonly readOnly: boolean;
  /** What close(2) waits for: `remote`, the bucket; `local`, this host's disk. */
  readonly durability: 'remote' | 'local';
  /** Headers and metadata that the configuration puts on the object of that path (below the mount point, no leading slash). */
  readonly headersFor: (path: string) => Partial<ObjectAttributes>;
  /** Reported by statfs as size and free space. A bucket has no size: large enough for programs that look before they write. */
  readonly capacityBytes: number;
}

/** Everything the operations stand on. Built once, in the composition root. */
export interface FsContext {
  readonly index: Index;
  readonly journal: Journal;
  readonly cache: BlockCache;
  readonly store: ObjectStore;
  readonly downloader: Downloader;
  readonly uploader: Uploader;
  readonly mover: Mover;
  readonly beliefs: Beliefs;
  readonly clock: StampClock;
  readonly log: Logger;
  readonly options: FsOptions;
  /** Set by the driver before the first request. */
  notifier: Notifier;
  /** Read-only views of this mount: their kernels are told, besides, what is changed here. The main mount's knows that by itself. */
  views: Notifier;
  /** The driver can have the kernel read and write files by itself, and a cache file can become a staging file. */
  takesBackingFiles: () => boolean;
  /** The index cannot be read: this process will not get far. */
  readonly noteIndexDamage: () => void;
}

/** A name, and its directory's listing, have changed here. */
export function tellViews({ views }: FsContext, parent: NodeId, name: string): void {
  views.invalidateEntry(parent, name);
  views.invalidateNode(parent, 0, 0);
}
