/** One connection that is read without streams: Node makes new buffers for all that they carry, and collecting those costs more than to receive. */
import net from 'node:net';
import tls from 'node:tls';
import { StoreError } from './contract.ts';

const READ_BYTES = 256 * 1024;

export interface RawConnectionOptions {
  readonly host: string;
  readonly port: number;
  /** undefined: no TLS. */
  readonly tls: Pick<tls.ConnectionOptions, 'rejectUnauthorized' | 'checkServerIdentity'> | undefined;
  readonly connectTimeoutMs: number;
  readonly idleTimeoutMs: number;
  /** How long a connection may wait for its next use. */
  readonly keepAliveMs: number;
}

export class RawConnection {
  readonly #options: RawConnectionOptions;
  readonly #buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  readonly #socket: net.Socket;
  /** What was received and not taken. */
  #from = 0;
  #to = 0;
  #isConnecting = true;
  #isResting = false;
  #waiting: PromiseWithResolvers<void> | undefined;
  #failure: Error | undefined;

  constructor(options: RawConnectionOptions) {
    this.#options = options;
    const { host, port } = options;
    const onread = { buffer: this.#buffer, callback: (count: number) => this.#received(count) };
    const secure = { host, port, onread, ...options.tls, ...(net.isIP(host) ? {} : { servername: host }) };
    this.#socket = options.tls === undefined ? net.connect({ host, port, onread }) : tls.connect(secure);
    this.#socket.setTimeout(options.connectTimeoutMs);
    this.#socket.setNoDelay(true);
    this.#socket.once(options.tls === undefined ? 'connect' : 'secureConnect', () => {
      this.#isConnecting = false;
      this.#socket.setTimeout(options.idleTimeoutMs);
    });
    this.#socket.on('timeout', () => this.#timedOut());
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('end', () => this.destroy());
    this.#socket.on('close', () => this.#fail(new StoreError('Transport', 'the connection was closed')));
  }

  /** Can carry another request. */
  get isUsable(): boolean {
    return this.#failure === undefined && this.#from === this.#to;
  }

  write(text: string): void {
    this.#isResting = false;
    this.#socket.write(text, 'latin1');
  }

  /** What was received, at least a byte of it; valid until the next call. Rejects with a `Timeout` or whatever ended the connection. */
  async bytes(): Promise<Buffer> {
    if (this.#from === this.#to) await this.#more();
    return this.#buffer.subarray(this.#from, this.#to);
  }

  take(count: number): void {
    this.#from += count;
  }

  /** Waits for its next use, and ends when there is none for long. */
  rest(): void {
    this.#isResting = true;
    this.#socket.setTimeout(this.#options.keepAliveMs);
    // Reads, to see the server close it.
    this.#socket.resume();
  }

  destroy(error?: Error): void {
    this.#fail(error ?? new StoreError('Transport', 'the connection was closed'));
    this.#socket.destroy();
  }

  #more(): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    this.#waiting = Promise.withResolvers<void>();
    if (!this.#isConnecting) this.#socket.setTimeout(this.#options.idleTimeoutMs);
    this.#socket.resume();
    return this.#waiting.promise;
  }

  /** False: no more until these bytes are taken. */
  #received(count: number): boolean {
    this.#from = 0;
    this.#to = count;
    this.#waiting?.resolve();
    this.#waiting = undefined;
    return false;
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#waiting?.reject(this.#failure);
    this.#waiting = undefined;
  }

  #timedOut(): void {
    if (this.#isResting) this.destroy();
    else if (this.#isConnecting) this.destroy(new StoreError('Timeout', 'no connection in time'));
    else if (this.#waiting !== undefined) this.destroy(new StoreError('Timeout', 'no progress for too long'));
  }
}
