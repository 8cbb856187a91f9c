/** Entry point of the process that serves a mount: `worker.ts JOB_FILE [LABEL]…`, started by the guardian. */
import { serveWorker } from './daemonize.ts';
import { readJob, settleJob, takeBackJob } from './job.ts';
import { runJob } from './run.ts';

const [, , jobFile = ''] = process.argv;

await serveWorker(async (guardian, ready) => {
  // With new options, the last worker did not come to serve.
  const isTakenBack = guardian.failures > 0 && (await takeBackJob(jobFile));
  if (isTakenBack)
    console.error('tsfs: no worker could start with the new options: the mount goes on with those before.');
  const job = await readJob(jobFile);
  return runJob(job, guardian, () => {
    ready();
    settleJob(jobFile).catch((error: unknown) => console.error(`tsfs: ${String(error)}`));
  });
});
