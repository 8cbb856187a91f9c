/** One mount in this process, from its resolved configuration to the exit code: what `--foreground` and the daemon share. */
import { createLogger, type Logger } from '../base/log.ts';
import { DEFAULTS, type MountConfig } from './config.ts';
import { runMount } from './mount.ts';

export interface MountJob {
  readonly config: MountConfig;
  /** What the user should know but need not act on, e.g. options that are ignored: one line of the log each. */
  readonly notices: readonly string[];
}

export async function runJob(job: MountJob, ready: () => void): Promise<number> {
  const { level, file } = job.config.log;
  const log = createLogger({ level, file, maxFileBytes: DEFAULTS.logFileLimitBytes });
  for (const notice of job.notices) log.info(notice);
  try {
    return await runMount(job.config, { ready, log });
  } finally {
    await flush(log);
  }
}

function flush(log: Logger): Promise<void> {
  return new Promise((resolve) => log.flush(() => resolve()));
}
