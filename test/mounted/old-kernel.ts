/**
 * Loaded into every process of a mount by `NODE_OPTIONS=--import`: its workers do not know FUSE_NOTIFY_RESEND, as on kernels before Linux 6.9.
 */
import { isMainThread } from 'node:worker_threads';

if (isMainThread && process.argv[1]?.endsWith('/src/mount/worker.ts')) {
  const { InitFlag2 } = await import('../../src/kernel/protocol.ts');
  Object.assign(InitFlag2, { HAS_RESEND: 0 });
}
