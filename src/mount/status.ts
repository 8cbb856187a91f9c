import type { BlockCache, CacheUsage } from '../cache/contract.ts';
import type { FileSystem, FsStatus } from '../fs/file-system.ts';
import { INDEX_BATCH, type Index } from '../index/contract.ts';
import type { KernelSession, SessionStatus } from '../kernel/session.ts';
import type { StoreHealth } from '../store/health.ts';
import type { StackedStore } from '../store/stack.ts';
import type { StoreStats } from '../store/trace.ts';
import { type MountConfig, VERSION } from './config.ts';
import type { Guardian } from './guardian.ts';
import type { View } from './view.ts';

/** What a running mount tells about itself (`tsfs status`), as its control socket sends it. */
export interface MountStatus {
  readonly version: string;
  /** Of the worker. */
  readonly pid: number;
  readonly guardian: {
    /** undefined: there is none. */
    readonly pid: number | undefined;
    /** What it speaks with its workers. undefined: a daemon of a version that had only 1. */
    readonly protocol?: number | undefined;
    /** How often the worker was replaced since the mount began. */
    readonly restarts: number;
    /** Why it was, the last time. */
    readonly lastRestart?: string | undefined;
  };
  readonly source: string;
  readonly mountpoint: string;
  readonly endpoint: string;
  readonly state: 'starting' | 'ready' | 'stopping';
  readonly startedAtMs: number;
  readonly readOnly: boolean;
  readonly stateDirectory: string;
  /** Changes that the bucket does not have yet. */
  readonly pending: {
    readonly files: number;
    /** Renames and deletes that were begun. */
    readonly intents: number;
    /** The last failure, in words. */
    readonly lastError?: string | undefined;
  };
  readonly cache: CacheUsage & { readonly directory: string };
  readonly index: { readonly nodes: number };
  /** Requests to the bucket, attempts counted each, and whether it can be asked at all. */
  readonly store: StoreStats & { readonly health: StoreHealth };
  readonly kernel: SessionStatus;
  /** The read-only mount point beside this one. */
  readonly view?:
    | {
        readonly mountpoint: string;
        readonly state: 'mounted' | 'unmounted';
        readonly kernel: SessionStatus | undefined;
      }
    | undefined;
  readonly fileSystem: FsStatus;
  /** Objects whose keys cannot be file names, or whose name a directory has. */
  readonly skippedKeys: number;
}

/** What `drain` reports while it runs. */
export interface DrainProgress {
  readonly remainingFiles: number;
}

/** What `drain` ends with. */
export interface DrainReport {
  readonly uploaded: number;
  /** What the bucket could not be given, and why. It stays in the journal. */
  readonly failed: readonly { readonly name: string; readonly error: string }[];
}

export interface StatusParts {
  readonly guardian: Guardian;
  readonly state: MountStatus['state'];
  readonly startedAtMs: number;
  readonly store: StackedStore;
  readonly index: Index;
  readonly cache: BlockCache;
  readonly fileSystem: FileSystem;
  readonly session: KernelSession;
  readonly view: View | undefined;
}

export function statusOf(config: MountConfig, parts: StatusParts): MountStatus {
  const { index, cache, fileSystem } = parts;
  const counts = index.pending.counts();
  const fs = fileSystem.status();
  return {
    version: VERSION,
    pid: process.pid,
    guardian: {
      pid: parts.guardian.pid,
      protocol: parts.guardian.protocol,
      restarts: parts.guardian.restarts,
      lastRestart: parts.guardian.reason || undefined,
    },
    source: config.source,
    mountpoint: config.mountpoint,
    endpoint: parts.store.store.description,
    state: parts.state,
    startedAtMs: parts.startedAtMs,
    readOnly: config.kernel.readOnly,
    stateDirectory: config.stateDirectory,
    pending: { files: index.nodes.dirty(0, INDEX_BATCH).length, intents: counts.intents },
    cache: { directory: config.cache.directory, ...cache.usage() },
    index: { nodes: index.nodes.count() },
    store: { ...parts.store.stats(), health: parts.store.health() },
    kernel: parts.session.status(),
    view: parts.view && { mountpoint: parts.view.mountpoint, ...parts.view.status() },
    fileSystem: fs,
    skippedKeys: fs.hiddenKeys,
  };
}
