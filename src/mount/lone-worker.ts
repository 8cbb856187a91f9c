/** Entry point of a process that serves a mount without a guardian: `lone-worker.ts JOB_FILE [LABEL]…`. */
import { serveWorker } from './daemonize.ts';
import { NO_GUARDIAN } from './guardian.ts';
import { readJob } from './job.ts';
import { runJob } from './run.ts';

const [, , jobFile = ''] = process.argv;

await serveWorker(async (guardian, ready) => runJob(await readJob(jobFile), guardian, ready), NO_GUARDIAN);
