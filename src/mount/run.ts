/** One mount in this process, from the job that the command line left to the exit code. */
import { createLogger, type Logger } from '../base/log.ts';
import { DEFAULTS } from './config.ts';
import { MountError } from './errors.ts';
import type { Guardian } from './guardian.ts';
import { type MountJob, withdrawJob } from './job.ts';
import { runMount } from './mount.ts';

export async function runJob(job: MountJob, guardian: Guardian, ready: () => void): Promise<number | 'swap'> {
  const { level, file } = job.config.log;
  const log = createLogger({ level, file, maxFileBytes: DEFAULTS.logFileLimitBytes });
  if (guardian.restarts === 0) for (const notice of job.notices) log.info(notice);
  else log.warn({ restarts: guardian.restarts, reason: guardian.reason }, 'taking over from an earlier worker');
  try {
    return await runMount(job.config, { ready, log, guardian });
  } catch (error) {
    if (error instanceof MountError && isFirst(guardian)) await withdrawJob(job);
    throw error;
  } finally {
    await flush(log);
  }
}

/** No mount was there before this worker. */
function isFirst({ mount }: Guardian): boolean {
  return mount.state === 'none' || mount.state === 'unused';
}

function flush(log: Logger): Promise<void> {
  return new Promise((resolve) => log.flush(() => resolve()));
}
