import type { CacheUsage } from '../cache/contract.ts';
import type { FsStatus } from '../fs/file-system.ts';
import type { SessionStatus } from '../kernel/session.ts';
import type { StoreHealth } from '../store/health.ts';
import type { StoreStats } from '../store/trace.ts';

/** What a running mount tells about itself (`tsfs status`), as its control socket sends it. */
export interface MountStatus {
  readonly version: string;
  /** Of the worker. */
  readonly pid: number;
  readonly guardian: {
    /** undefined: there is none. */
    readonly pid: number | undefined;
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
