/**
 * The only place that constructs across layers: store, index, journal, cache and file system of one mount, the same for the daemon that serves
 * it and for what works on its state without one.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createStampClock, isAhead, type StampClock, systemClock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import type { Teardown } from '../base/teardown.ts';
import { openCache } from '../cache/cache.ts';
import type { BlockCache } from '../cache/contract.ts';
import { Beliefs } from '../freshness/beliefs.ts';
import type { FsContext } from '../fs/context.ts';
import { FileSystem } from '../fs/file-system.ts';
import { type Index, IndexError } from '../index/contract.ts';
import { isDamage, markDamaged } from '../index/damage.ts';
import { openIndex } from '../index/open.ts';
import type { Journal } from '../journal/contract.ts';
import { openJournal } from '../journal/journal.ts';
import type { Notifier } from '../kernel/contract.ts';
import type { StackedStore } from '../store/stack.ts';
import { createDownloader } from '../transfer/download.ts';
import { createMover } from '../transfer/move.ts';
import { createUploader } from '../transfer/upload.ts';
import type { MountConfig } from './config.ts';
import { EXIT, MountError, systemCode } from './errors.ts';
import { objectHeaders } from './object-headers.ts';

/** What statfs(2) reports where no size is configured: programs (mergerfs, installers) look for room before they write. */
const CAPACITY_BYTES = 2 ** 50;

/** How far stamps were ahead of the wall clock, ms. */
const AHEAD_FACT = 'clock.aheadMs';

const NOBODY: Notifier = { invalidateEntry: () => undefined, invalidateNode: () => undefined };

export interface Ground {
  readonly store: StackedStore;
  readonly log: Logger;
  /** Takes the layers down again, in reverse. */
  readonly teardown: Teardown;
  /** Called at each time that the index turns out to be damaged while it is in use. */
  readonly onIndexDamage?: () => void;
  /** Nothing is tidied up. */
  readonly isOnlyLookedAt?: boolean;
}

export interface Layers {
  readonly index: Index;
  readonly journal: Journal;
  readonly cache: BlockCache;
  readonly fileSystem: FileSystem;
}

/** Takes the lock of the state directory. Rejects with a MountError when another process has it, or the index cannot be used. */
export async function openLayers(config: MountConfig, ground: Ground): Promise<Layers> {
  const { log, teardown } = ground;
  const index = openState(config, log);
  teardown.defer(() => index.close());
  const clock = stampClock(index, log);
  const journal = openJournal({ directory: stagingDirectory(config), index, log });
  teardown.defer(() => journal.close());
  const cache = await openCache({
    directory: config.cache.directory,
    limitBytes: config.cache.limitBytes,
    minFreeBytes: config.cache.minFreeBytes,
    tidy: ground.isOnlyLookedAt !== true,
    contents: index.contents,
    transaction: (body) => index.transaction(body),
    clock,
    log,
  });
  teardown.defer(() => cache.close());
  return { index, journal, cache, fileSystem: buildFileSystem(config, { ...ground, index, journal, cache, clock }) };
}

/**
 * Stamps are later than all that the index has, also when the wall clock was set back, now or while nothing was mounted. What the index knows is not
 * believed then: nobody can tell how old it is.
 */
function stampClock(index: Index, log: Logger): StampClock {
  const aheadMs = Number(index.getFact(AHEAD_FACT) ?? 0);
  return createStampClock(systemClock, {
    afterMs: index.lastWriteMs + aheadMs,
    onAhead: (ms) => {
      log.warn({ aheadMs: ms }, ms > 0 ? 'the clock of this host was set back' : 'the clock of this host is as it was');
      index.setFact(AHEAD_FACT, `${ms}`);
    },
  });
}

/**
 * Once more with a new index, when this one turns out to be damaged on the way: a large one is not looked through when it is opened. `work`
 * leaves nothing open.
 */
export async function survivingDamage<T>(config: MountConfig, log: Logger, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isDamage(error)) throw error;
    log.error({ error }, 'the index is damaged');
    markDamaged(indexPath(config));
    return work();
  }
}

export function indexPath(config: Pick<MountConfig, 'stateDirectory'>): string {
  return join(config.stateDirectory, 'index.db');
}

/** A cache file can become a staging file by rename. */
export async function sharesFileSystem(config: MountConfig): Promise<boolean> {
  const [cache, staging] = await Promise.all([stat(config.cache.directory), stat(stagingDirectory(config))]);
  return cache.dev === staging.dev;
}

export function stagingDirectory(config: Pick<MountConfig, 'stateDirectory'>): string {
  return join(config.stateDirectory, 'staging');
}

/** For an IndexError `busy`. */
export function inUse({ source, mountpoint }: MountConfig, cause: IndexError): MountError {
  const sentence = `Another tsfs process serves ${source} on ${mountpoint}, or still uploads for it: unmount it first (tsfs umount), or see tsfs status.`;
  return new MountError(sentence, EXIT.failure, cause);
}

function openState(config: MountConfig, log: Logger): Index {
  try {
    return openIndex({ path: indexPath(config), log, rebuild: true });
  } catch (error) {
    if (error instanceof IndexError && error.reason === 'busy') throw inUse(config, error);
    if (error instanceof IndexError) throw new MountError(`${error.message}.`, EXIT.failure, error);
    const code = systemCode(error);
    if (code === undefined) throw error;
    throw new MountError(`The index in ${config.stateDirectory} cannot be opened (${code}).`, EXIT.failure, error);
  }
}

function buildFileSystem(
  config: MountConfig,
  parts: Ground & Omit<Layers, 'fileSystem'> & { readonly clock: StampClock },
): FileSystem {
  const { index, journal, cache, clock, log, teardown } = parts;
  const { store } = parts.store;
  const { transfer, attributes, freshness } = config;
  const downloader = createDownloader({ store, cache, log });
  teardown.defer(() => downloader.close());
  const { expireMs, negativeTtlMs: negativeMs, maxNodes: maxNames } = freshness;
  const beliefs = new Beliefs(clock, { expireMs, negativeMs, maxNames });
  if (isAhead(clock)) beliefs.distrust();
  const context: FsContext = {
    index,
    journal,
    cache,
    store,
    downloader,
    uploader: createUploader({
      store,
      log,
      partSizeBytes: transfer.partSizeBytes,
      multipartThresholdBytes: transfer.multipartThresholdBytes,
      parallel: transfer.parallelParts,
    }),
    mover: createMover({ store, log, listDirectory: config.stateDirectory }),
    beliefs,
    clock,
    log,
    options: {
      rootPrefix: config.prefix,
      // Not the endpoint: servers may reach the same bucket by different addresses, and inode numbers must not differ.
      bucketIdentity: config.bucket,
      defaults: {
        uid: attributes.uid,
        gid: attributes.gid,
        fileMode: 0o666 & ~attributes.umask,
        directoryMode: 0o777 & ~attributes.umask,
        rootMode: 0o777 & ~attributes.mountpointUmask,
      },
      readOnly: config.kernel.readOnly,
      durability: config.durability,
      headersFor: objectHeaders(config.objects.headerRules),
      capacityBytes: config.statfsSizeBytes ?? CAPACITY_BYTES,
    },
    // Before the session exists nobody in the kernel has anything to forget.
    notifier: NOBODY,
    views: NOBODY,
    takesBackingFiles: () => false,
    noteIndexDamage: parts.onIndexDamage ?? (() => undefined),
  };
  return new FileSystem(context);
}
