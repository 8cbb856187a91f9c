/**
 * The composition root of a mount: builds what stands over the layers of `layers.ts`, in order, and takes all down again in reverse. One mount,
 * from its configuration to the exit code.
 */
import { rm } from 'node:fs/promises';
import { systemClock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import { Teardown } from '../base/teardown.ts';
import type { FileSystem } from '../fs/file-system.ts';
import type { Index } from '../index/contract.ts';
import { isDamage, markDamaged } from '../index/damage.ts';
import { mountFuse, unmountFuse } from '../kernel/mount.ts';
import { MountError as KernelMountError } from '../kernel/mount-error.ts';
import { mountPortable } from '../kernel/portable.ts';
import { raiseReadAhead } from '../kernel/read-ahead.ts';
import { type Inheritance, type KernelSession, startSession } from '../kernel/session.ts';
import { type MountConfig, VERSION } from './config.ts';
import { serveControl } from './control.ts';
import { EXIT, MountError } from './errors.ts';
import type { Guardian } from './guardian.ts';
import { disinherit, inheritance, legacy } from './heritage.ts';
import { type MountJob, tryJob } from './job.ts';
import { indexPath, openLayers, sharesFileSystem, stagingDirectory, survivingDamage } from './layers.ts';
import { openCheckedStore, openStore } from './object-store.ts';
import { collect, listPending } from './pending.ts';
import { makeDirectories } from './preflight.ts';
import { type MountStatus, statusOf } from './status.ts';
import { openView, type View } from './view.ts';

export interface MountHooks {
  /** Called once, when the mount answers. */
  ready(): void;
  readonly log: Logger;
  readonly guardian: Guardian;
}

/** After the unmount, uploads get so long before the process ends; the journal keeps the rest for the next start. */
const LAST_DRAIN_MS = 20_000;

/**
 * The kernel cannot be told of changes by the portable driver: so long it may go on believing what the file system does not believe any more.
 * Short beside `stat_cache_expire`, and enough for the calls of one program that does something with a file.
 */
const PORTABLE_TTL_LIMIT_MS = 1000;

/**
 * Mounts, or goes on with the mount of an earlier worker, and serves until the mount ends. Resolves with the exit code, or `swap` when another worker
 * is to go on; rejects with a MountError when it could not be mounted.
 */
export function runMount(config: MountConfig, hooks: MountHooks): Promise<number | 'swap'> {
  return survivingDamage(config, hooks.log, () => mountOnce(config, hooks));
}

async function mountOnce(config: MountConfig, hooks: MountHooks): Promise<number | 'swap'> {
  const layers = new Teardown();
  try {
    return await serve(config, hooks, layers);
  } finally {
    await layers.run((error) => hooks.log.error({ error: String(error) }, 'a layer did not close in order'));
  }
}

async function serve(config: MountConfig, hooks: MountHooks, layers: Teardown): Promise<number | 'swap'> {
  const { log, guardian } = hooks;
  const startedAtMs = systemClock.nowMs();
  // The worker before this one ended after the unmount, or before it heard of it.
  const isOver = guardian.mount.state === 'ended';
  const continues = guardian.mount.state === 'mounted';
  let isSwapped = false;
  // A mount that is there is served, whatever the store says now.
  const store = continues || isOver ? await openStore(config, log) : await openCheckedStore(config, log);
  layers.defer(() => store.store.close());

  if (config.cache.deleteAtEnds) {
    const empty = () => rm(config.cache.directory, { recursive: true, force: true });
    if (!continues && !isOver) await empty();
    layers.defer(() => (isSwapped ? undefined : empty()));
  }
  let giveUp = () => {};
  const onIndexDamage = once(() => {
    log.fatal('the index is damaged: a new one is made, and what is staged is kept');
    markDamaged(indexPath(config));
    setImmediate(() => giveUp());
  });
  // Work in the background that meets it ends this process, and the next one must know why.
  const onDefect = (error: unknown) => isDamage(error) && onIndexDamage();
  process.on('uncaughtExceptionMonitor', onDefect);
  layers.defer(() => process.off('uncaughtExceptionMonitor', onDefect));
  const { index, cache, fileSystem } = await openLayers(config, { store, log, teardown: layers, onIndexDamage });
  if (!continues) disinherit(index);
  const inherits = continues ? inheritance(index, 'mount', guardian.crashes) : undefined;
  await fileSystem.recover(inherits?.opens);
  if (isOver) {
    layers.defer(() => fileSystem.close());
    fileSystem.drainer.start(false);
    await drainAtEnd(fileSystem, log);
    return EXIT.ok;
  }

  const session = await connect(config, { guardian, inherits, index, fileSystem, log });
  const canLend = await sharesFileSystem(config);
  const hotNodes = config.kernel.hotTable ? session.hotNodes : undefined;
  fileSystem.connect(session.notifier, hotNodes, () => canLend && session.takesBackingFiles);
  // A failure after the mount: a mount point that nobody serves must not stay behind. One that was there is for the next worker.
  let mustUnmount = !continues;
  let isLeft = continues;
  layers.defer(async () => {
    if (mustUnmount) await unmountFuse(config.mountpoint, true);
    await session.stop();
  });
  layers.defer(() => fileSystem.close());
  // Another worker begins with a new index; without a guardian there is none.
  giveUp = () => void (guardian.pid === undefined ? unmountFuse(config.mountpoint, true) : session.stop());

  const view = await viewOf(config, { guardian, index, fileSystem, log });
  layers.defer(() => view?.close(isLeft ? 'leave' : 'unmount'));

  let state: MountStatus['state'] = 'ready';
  const status = () =>
    statusOf(config, { state, startedAtMs, guardian, store, index, cache, fileSystem, session, view });
  const leave = () => {
    log.info('leaving the mount to another worker');
    // Once the answer is on its way. Who asks from now on is heard by the next worker.
    setImmediate(() => {
      void control.close();
      void session.stop();
    });
    return process.pid;
  };
  const control = await serveControl(
    guardian.controlFd ?? config.controlSocket,
    {
      status: () => Promise.resolve(status()),
      drain: (_args, progress) =>
        fileSystem.drainer.drain((remainingFiles) => progress({ remainingFiles })).then((report) => ({ ...report })),
      pending: async (_args, progress) => {
        const place = { index, stagingDirectory: stagingDirectory(config), prefix: config.prefix };
        const { changes, count } = await collect(listPending(place));
        for (const change of changes) progress(change);
        return count;
      },
      swap: async () => {
        expectGuardian(guardian);
        return leave();
      },
      // Other options, which are tried from here: this process has the environment that the next worker gets.
      reconfigure: async (job) => {
        expectGuardian(guardian);
        const { config: next } = job as MountJob;
        await makeDirectories(next);
        await (await openCheckedStore(next, log)).store.close();
        await tryJob(job as MountJob);
        return leave();
      },
    },
    log,
  );
  layers.defer(() => control.close());
  fileSystem.drainer.start(continues);
  store.onReturn(() => fileSystem.drainer.hurry());
  const signals = onSignals(async () => {
    state = 'stopping';
    await drainAtEnd(fileSystem, log);
    await unmountFuse(config.mountpoint, true);
  }, log);
  layers.defer(signals);
  log.info({ source: config.source, mountpoint: config.mountpoint, version: VERSION }, 'mounted');
  hooks.ready();

  const end = await session.ended;
  mustUnmount = end.reason === 'failed';
  isLeft = end.reason === 'stopped';
  state = 'stopping';
  if (end.reason === 'stopped') {
    isSwapped = true;
    return 'swap';
  }
  if (end.reason === 'failed') {
    log.fatal({ error: end.error }, 'the connection to the kernel failed');
    return EXIT.failure;
  }
  log.info({ source: config.source, mountpoint: config.mountpoint }, 'unmounted');
  await drainAtEnd(fileSystem, log);
  return EXIT.ok;
}

function expectGuardian({ pid }: Guardian): void {
  if (pid === undefined) throw new MountError('This mount has no guardian that would start another worker.');
}

interface Ends {
  readonly guardian: Guardian;
  readonly index: Index;
  readonly fileSystem: FileSystem;
  readonly log: Logger;
}

/** Serves the mount, which is made when it is not there. */
async function connect(
  config: MountConfig,
  ends: Ends & { readonly inherits: Inheritance | undefined },
): Promise<KernelSession> {
  const { kernel } = config;
  const { guardian, inherits, index, fileSystem: operations, log } = ends;
  const { state, fd: deviceFd } = guardian.mount;
  const continues = state === 'mounted';
  const options = {
    source: config.source,
    mountPoint: config.mountpoint,
    readOnly: kernel.readOnly,
    allowOther: kernel.allowOther,
    defaultPermissions: kernel.defaultPermissions,
    noExec: kernel.noexec,
    noAtime: kernel.noatime,
  };
  try {
    if (kernel.driver === 'portable') {
      const kernelTtlMs = Math.min(PORTABLE_TTL_LIMIT_MS, config.freshness.expireMs / 10);
      return await mountPortable({ ...options, operations, log, owner: config.attributes, kernelTtlMs });
    }
    // It stays open: the guardian has it too.
    const fd = continues ? deviceFd : await mountFuse({ ...options, deviceFd });
    if (!continues) await raiseReadAhead(config.mountpoint, log);
    const { passthrough, readOnly } = kernel;
    const { notifyFd, keptFd } = guardian.mount;
    const reading = { operations: readOnly ? operations.view(continues) : operations, withoutOpens: readOnly };
    const succession = { notifyFd, keptFd, inherits, legacy: legacy(index, 'mount') };
    return startSession({ fd, ...reading, log, passthrough, ...succession });
  } catch (error) {
    if (error instanceof KernelMountError) throw new MountError(sentence(error.message), EXIT.failure, error);
    throw error;
  }
}

async function viewOf(config: MountConfig, ends: Ends): Promise<View | undefined> {
  const { viewMountpoint } = config;
  if (viewMountpoint === undefined) return undefined;
  try {
    return await openView(config, { ...ends, mountpoint: viewMountpoint });
  } catch (error) {
    if (ends.guardian.mount.state === 'mounted') {
      // The mount comes first.
      ends.log.error({ error: String(error), mountpoint: viewMountpoint }, 'going on without the view');
      return undefined;
    }
    if (error instanceof KernelMountError) throw new MountError(sentence(error.message), EXIT.failure, error);
    throw error;
  }
}

function sentence(message: string): string {
  return message.endsWith('.') ? message : `${message}.`;
}

function once(action: () => void): () => void {
  let isDone = false;
  return () => {
    if (!isDone) action();
    isDone = true;
  };
}

/** SIGTERM and SIGINT end the mount in order. Returns what takes the handlers away again. */
function onSignals(stop: () => Promise<void>, log: Logger): () => void {
  let isStopping = false;
  const handle = (signal: NodeJS.Signals) => {
    if (isStopping) return;
    isStopping = true;
    log.info({ signal }, 'unmounting');
    stop().catch((error: unknown) => log.error({ error: String(error) }, 'could not unmount'));
  };
  const signals: NodeJS.Signals[] = ['SIGTERM', 'SIGINT', 'SIGHUP'];
  for (const signal of signals) process.on(signal, handle);
  return () => {
    for (const signal of signals) process.off(signal, handle);
  };
}

async function drainAtEnd({ drainer }: FileSystem, log: Logger): Promise<void> {
  const report = await withLimit(
    drainer.drain(() => undefined),
    LAST_DRAIN_MS,
  );
  if (report === undefined || report.failed.length > 0) {
    log.warn({ failed: report?.failed }, 'not everything could be uploaded: the rest waits for the next mount');
  }
}

/** Resolves with undefined after the limit. */
function withLimit<T>(work: Promise<T>, limitMs: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), limitMs);
  });
  return Promise.race([work, limit]).finally(() => clearTimeout(timer));
}
