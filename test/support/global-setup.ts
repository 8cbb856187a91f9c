/** One gateway for a whole run of vitest. A server given by the environment is used instead. */
import { announceServer } from './buckets.ts';
import { startRgw } from './rgw.ts';

export default async function setup(): Promise<() => Promise<void>> {
  if (process.env.TSFS_TEST_ENDPOINT !== undefined) return async () => {};
  const rgw = await startRgw();
  announceServer(rgw);
  return () => rgw.stop();
}
