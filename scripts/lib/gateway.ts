/** A Ceph RGW on loopback, in processes of its own: it can be given up at any moment, and a Ctrl-C does not end it too early. */
import { Background } from './programs.ts';

export interface Gateway {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  stop(): Promise<void>;
}

const RGW = new URL('../../test/support/rgw.ts', import.meta.url).pathname;
const READY_LIMIT_MS = 90_000;
const STOP_GRACE_MS = 15_000;

/** Its data is in memory, its logs are in `dir`. */
export async function startGateway(dir: string, signal?: AbortSignal): Promise<Gateway> {
  const daemon = new Background(process.execPath, [RGW, '--dir', dir], process.env);
  try {
    const line = await daemon.firstLine(READY_LIMIT_MS, signal);
    return { ...(JSON.parse(line) as Omit<Gateway, 'stop'>), stop: () => daemon.stop(STOP_GRACE_MS) };
  } catch (error) {
    await daemon.stop();
    throw new Error(`Ceph RGW did not start: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}
