/**
 * `tsfs fsck`: compares what a mount left (index, journal, cache) with itself and with the bucket. Repairing never touches the only copy of
 * anything: what cannot be brought to the bucket is kept in lost+found.
 */
import { Teardown } from '../base/teardown.ts';
import { checkReferences, integrityOf } from '../index/check.ts';
import { IndexError } from '../index/contract.ts';
import { isMarkedDamaged, markDamaged } from '../index/damage.ts';
import { openIndex } from '../index/open.ts';
import { openIndexReader } from '../index/reader.ts';
import { isStoreError } from '../store/contract.ts';
import { MountError } from './errors.ts';
import { checkBucket } from './fsck-bucket.ts';
import { checkCache } from './fsck-cache.ts';
import { checkJournal } from './fsck-journal.ts';
import type { Finding, FsckReport, FsckRun } from './fsck-scene.ts';
import { indexPath, inUse, openLayers } from './layers.ts';
import { storeSentence } from './messages.ts';
import { openStore } from './object-store.ts';

/** Rejects with a MountError when a daemon has the state, or there is none. */
export async function fsck(run: FsckRun): Promise<FsckReport> {
  let findings = 0;
  const onFinding = (finding: Finding) => {
    if (finding.repair !== undefined) findings += 1;
    run.onFinding(finding);
  };
  const counted = { ...run, onFinding };
  const obstacle = (await isIndexSound(counted)) ? await checkAll(counted) : 'The rest is looked at once the index is.';
  return { findings, isRepaired: run.isRepairing, obstacle };
}

/** Whether the rest makes sense: the index is sound, or will be made anew. */
async function isIndexSound(run: FsckRun): Promise<boolean> {
  const path = indexPath(run.config);
  const lock = await lockIndex(run);
  run.onProgress('looking through the index');
  try {
    const damage = lock === 'damaged' ? ['it cannot be opened'] : damageIn(path);
    for (const text of damage) {
      const repair = 'makes the index anew from the bucket; what is staged is kept';
      run.onFinding({ area: 'index', text: `the file is damaged: ${text}`, repair });
    }
    if (damage.length > 0 && run.isRepairing) markDamaged(path);
    if (damage.length > 0) return run.isRepairing;
    for (const found of checkReferences(path, run.isRepairing)) run.onFinding({ area: 'index', ...found });
    return true;
  } finally {
    run.onProgress('');
    if (lock !== 'damaged') await lock.close();
  }
}

/** In the words of who met it. */
function damageIn(path: string): string[] {
  return isMarkedDamaged(path) ? ['a mount has met damage in it'] : integrityOf(path);
}

/** The index as its owner, as it is. */
async function lockIndex({ config, log }: FsckRun): Promise<{ close(): Promise<void> } | 'damaged'> {
  try {
    return openIndex({ path: indexPath(config), log });
  } catch (error) {
    if (!(error instanceof IndexError)) throw error;
    if (error.reason === 'damaged') return 'damaged';
    if (error.reason === 'newer') throw new MountError(`${error.message}.`);
    throw inUse(config, error);
  }
}

/** Resolves with what kept it from looking at everything. */
async function checkAll(run: FsckRun): Promise<string | undefined> {
  const { config, log, isRepairing } = run;
  const teardown = new Teardown();
  try {
    const store = await openStore(config, log);
    teardown.defer(() => store.store.close());
    const layers = await openLayers(config, { store, log, teardown, isOnlyLookedAt: !isRepairing });
    teardown.defer(() => layers.fileSystem.close());
    const reader = openIndexReader(indexPath(config));
    teardown.defer(() => reader.close());
    const scene = { ...run, layers };
    await checkJournal(scene);
    await checkCache(scene, reader, store.store);
    await checkBucket(scene, reader, store.store);
    if (isRepairing) await layers.index.sync();
    return undefined;
  } catch (error) {
    if (!isStoreError(error)) throw error;
    return storeSentence(error, config);
  } finally {
    run.onProgress('');
    await teardown.run((error) => log.error({ error }, 'a layer did not close in order'));
  }
}
