/** A TCP proxy that counts what comes back: also bytes of answers that the client gives up. */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { pipeline } from 'node:stream';

export interface ByteCounter {
  readonly endpoint: string;
  /** From the store to its client, headers included. */
  readonly bytes: number;
  stop(): Promise<void>;
}

export async function startByteCounter(upstream: string): Promise<ByteCounter> {
  const { hostname, port } = new URL(upstream);
  const sockets = new Set<Socket>();
  let bytes = 0;
  const server = createServer((client) => {
    const store = connect(Number(port), hostname);
    store.on('data', (chunk) => {
      bytes += chunk.length;
    });
    for (const [from, to] of [
      [client, store],
      [store, client],
    ] as const) {
      sockets.add(from);
      from.setNoDelay(true).once('close', () => sockets.delete(from));
      // A side that breaks off takes the other with it: there is nobody to report it to.
      pipeline(from, to, () => undefined);
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', resolve);
  });
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get bytes() {
      return bytes;
    },
    stop: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
