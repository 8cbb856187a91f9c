import { Worker } from 'node:worker_threads';
import type { Logger } from '../base/log.ts';
import type { CheckpointReport, CheckpointSettings } from './checkpoint-worker.ts';

/** The compiled program has .js files, a checkout run by type stripping has .ts files. */
const EXTENSION = import.meta.url.endsWith('.ts') ? 'ts' : 'js';

/** Checkpoints of one database in a thread of their own. */
export class Checkpointer {
  readonly #worker: Worker;
  readonly #exited: Promise<unknown>;

  /** `onDeath`: the thread ended by an error, which should not happen, and will not come back. */
  constructor(settings: CheckpointSettings, log: Logger, onDeath: () => void) {
    this.#worker = new Worker(new URL(`./checkpoint-worker.${EXTENSION}`, import.meta.url), {
      name: 'index-checkpoint',
      workerData: settings,
      // Flags of the main program (loaders, inspectors) are not for this thread.
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4 },
    });
    this.#worker.unref();
    this.#worker.on('message', ({ error }: CheckpointReport) => {
      if (error === undefined) log.info('index checkpoints work again');
      else log.warn({ error }, 'index checkpoint failed, will be tried again');
    });
    this.#worker.on('error', (error) => {
      log.error({ error }, 'index checkpoint thread died: commits do its work now');
      onDeath();
    });
    this.#exited = new Promise((resolve) => this.#worker.once('exit', resolve));
  }

  /** Lets a checkpoint that runs end, and resolves when the thread is gone. */
  async stop(): Promise<void> {
    this.#worker.ref();
    this.#worker.postMessage('stop');
    await this.#exited;
  }
}
