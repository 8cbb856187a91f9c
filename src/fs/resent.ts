/**
 * Requests that come again. When a worker dies, its successor gets all that was not answered (by FUSE_NOTIFY_RESEND; before Linux 6.9, what was
 * kept), and the first execution may have been complete but for the reply. Most operations are the same twice. Those that make or take a name
 * would meet their own result, so for them "it is there already" or "it is gone already" means success. Nobody else on this host can have been
 * faster: the kernel holds the directory's lock until the request is answered.
 */
import { constants } from 'node:os';
import type { Caller } from '../kernel/contract.ts';
import { errnoOf } from './errors.ts';

/** `done` answers in the place of an attempt that fails with `errno` because an earlier one had succeeded. */
export async function resumable<T>(
  caller: Caller,
  errno: 'EEXIST' | 'ENOENT' | 'ENODATA',
  attempt: () => Promise<T>,
  done: () => T | Promise<T>,
): Promise<T> {
  try {
    return await attempt();
  } catch (error) {
    if (!caller.isResent || errnoOf(error) !== constants.errno[errno]) throw error;
    return done();
  }
}
