/** Entry point of the process that serves a mount: `worker.ts JOB_FILE [LABEL]…`, started by the guardian. */
import { serveWorker } from './daemonize.ts';
import { readJob } from './job.ts';
import { runJob } from './run.ts';

const [, , jobFile = ''] = process.argv;

await serveWorker(async (guardian, ready) => runJob(await readJob(jobFile), guardian, ready));
