/** Entry point of a mount's background process. */
import { serveDaemon } from './daemonize.ts';
import { type MountJob, runJob } from './run.ts';

serveDaemon((job, ready) => runJob(job as MountJob, ready));
