/** What the checks of `tsfs fsck` are given, and what they find. */
import type { Logger } from '../base/log.ts';
import type { MountConfig } from './config.ts';
import type { Layers } from './layers.ts';

export interface Finding {
  readonly area: 'index' | 'journal' | 'cache' | 'bucket';
  /** In the mount, without a leading slash; undefined: it concerns no single file. */
  readonly path?: string | undefined;
  /** What is wrong, in words, without a full stop. */
  readonly text: string;
  /** What repairing does, or did. undefined: it is told only, and nothing needs to be done. */
  readonly repair: string | undefined;
}

export interface FsckReport {
  readonly findings: number;
  /** It was asked for, and done for all of them. */
  readonly isRepaired: boolean;
  /** Why not everything could be looked at. */
  readonly obstacle: string | undefined;
}

export interface FsckRun {
  readonly config: MountConfig;
  readonly isRepairing: boolean;
  readonly log: Logger;
  onFinding(finding: Finding): void;
  /** '' when it ends. */
  onProgress(text: string): void;
}

/** What the checks are given. */
export interface FsckScene extends FsckRun {
  readonly layers: Layers;
}
