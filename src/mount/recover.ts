/** `tsfs recover`: brings to the bucket what a mount still owes it, or exports it, without mounting. */
import type { Logger } from '../base/log.ts';
import { Teardown } from '../base/teardown.ts';
import type { StackedStore } from '../store/stack.ts';
import type { MountConfig } from './config.ts';
import { type ExportedFile, exportPending } from './export.ts';
import { type Layers, openLayers, stagingDirectory, survivingDamage } from './layers.ts';
import { openCheckedStore, openStore } from './object-store.ts';
import { collect, listPending, type PendingList } from './pending.ts';

export interface RecoverRun {
  readonly config: MountConfig;
  readonly log: Logger;
  /** '' when it ends. */
  onProgress(text: string): void;
}

export interface RecoverReport {
  readonly uploaded: number;
  /** What the bucket still lacks, and why. */
  readonly remaining: PendingList;
}

/** Rejects with a MountError when a daemon has the state, or the bucket does not answer. */
export function recoverPending(run: RecoverRun): Promise<RecoverReport> {
  return withLayers(run, openCheckedStore, async ({ index, fileSystem }) => {
    const { uploaded } = await fileSystem.drainer.drain((left) => run.onProgress(`${left} files to upload`));
    const place = { index, stagingDirectory: stagingDirectory(run.config), prefix: run.config.prefix };
    const remaining = await collect(listPending(place));
    await index.sync();
    return { uploaded, remaining };
  });
}

/** Copies: nothing is removed. Asks the bucket only for parts of files that nobody changed, and does without when it does not answer. */
export function exportTo(run: RecoverRun, directory: string, onFile: (file: ExportedFile) => void): Promise<void> {
  // It may be away for good: one attempt tells.
  const config = { ...run.config, store: { ...run.config.store, retries: 0 } };
  return withLayers({ ...run, config }, openStore, (layers) => exportPending(config, layers, { directory, onFile }));
}

type OpenStore = (config: MountConfig, log: Logger) => Promise<StackedStore>;

function withLayers<T>(run: RecoverRun, open: OpenStore, work: (layers: Layers) => Promise<T>): Promise<T> {
  return survivingDamage(run.config, run.log, () => withLayersOnce(run, open, work));
}

async function withLayersOnce<T>(run: RecoverRun, open: OpenStore, work: (layers: Layers) => Promise<T>): Promise<T> {
  const { config, log } = run;
  const teardown = new Teardown();
  try {
    const store = await open(config, log);
    teardown.defer(() => store.store.close());
    const layers = await openLayers(config, { store, log, teardown });
    teardown.defer(() => layers.fileSystem.close());
    await layers.fileSystem.recover(undefined);
    return await work(layers);
  } finally {
    run.onProgress('');
    await teardown.run((error) => log.error({ error }, 'a layer did not close in order'));
  }
}
