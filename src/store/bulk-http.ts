/**
 * GETs of many bytes, received into memory that the reader brings. What the usual transport does better (refusals, proxies, chunked bodies)
 * is left to it: such a request is sent again there.
 */
import { Readable } from 'node:stream';
import { isStoreError, StoreError } from './contract.ts';
import { RawConnection, type RawConnectionOptions } from './raw-connection.ts';

export interface BulkRequest {
  readonly host: string;
  readonly port: number;
  readonly isSecure: boolean;
  /** With the query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

export interface BulkResponse {
  readonly statusCode: number;
  readonly headers: Record<string, string>;
  readonly body: BulkBody;
}

export type BulkOptions = Omit<RawConnectionOptions, 'host' | 'port'>;

const HEAD_BYTES_MAX = 64 * 1024;
const CHUNK_BYTES = 64 * 1024;

export class BulkTransport {
  readonly #options: BulkOptions;
  /** By origin; the most recently used last. */
  readonly #resting = new Map<string, RawConnection[]>();

  constructor(options: BulkOptions) {
    this.#options = options;
  }

  /** undefined: there was no answer, or not one like `200` or `206` with its length. Rejects with `Timeout` and `Aborted`. */
  async get(request: BulkRequest, signal: AbortSignal | undefined): Promise<BulkResponse | undefined> {
    const connection = this.#take(request);
    const onAbort = () => connection.destroy(aborted());
    signal?.addEventListener('abort', onAbort, { once: true });
    const finish = (isReusable: boolean) => {
      signal?.removeEventListener('abort', onAbort);
      if (isReusable) this.#keep(request, connection);
      else connection.destroy();
    };
    try {
      connection.write(encodeHead(request));
      const head = decodeHead(await readHead(connection));
      if (head === undefined) throw new StoreError('Transport', 'an answer for the usual transport');
      const { lengthBytes, keepsAlive, ...response } = head;
      const body = new BulkBody(connection, lengthBytes, (isWhole) => finish(isWhole && keepsAlive));
      return { ...response, body };
    } catch (error) {
      finish(false);
      if (signal?.aborted) throw aborted();
      if (isStoreError(error, 'Timeout')) throw error;
      return undefined;
    }
  }

  destroy(): void {
    for (const connection of [...this.#resting.values()].flat()) connection.destroy();
    this.#resting.clear();
  }

  #take(request: BulkRequest): RawConnection {
    const resting = this.#resting.get(originOf(request)) ?? [];
    for (let connection = resting.pop(); connection !== undefined; connection = resting.pop()) {
      if (connection.isUsable) return connection;
      connection.destroy();
    }
    const { host, port, isSecure } = request;
    return new RawConnection({ ...this.#options, host, port, tls: isSecure ? this.#options.tls : undefined });
  }

  #keep(request: BulkRequest, connection: RawConnection): void {
    const origin = originOf(request);
    const resting = this.#resting.get(origin)?.filter(({ isUsable }) => isUsable) ?? [];
    this.#resting.set(origin, [...resting, connection]);
    connection.rest();
  }
}

/** As a stream, or with `fill`. */
export class BulkBody extends Readable {
  readonly #connection: RawConnection;
  readonly #finish: (isWhole: boolean) => void;
  #leftBytes: number;
  #isFinished = false;

  constructor(connection: RawConnection, lengthBytes: number, finish: (isWhole: boolean) => void) {
    super({ highWaterMark: CHUNK_BYTES });
    this.#connection = connection;
    this.#leftBytes = lengthBytes;
    this.#finish = finish;
    // Whoever reads the body gets its error; a body that nobody reads yet must not end the process.
    this.on('error', () => {});
    if (lengthBytes === 0) this.#end(true);
  }

  /** Receives the next bytes of the body, as many as the target holds. */
  async fill(target: Uint8Array): Promise<void> {
    if (target.length > this.#leftBytes) throw new StoreError('Transport', 'the body ended early');
    for (let filled = 0; filled < target.length; ) {
      const bytes = await this.#connection.bytes();
      const count = Math.min(bytes.length, target.length - filled);
      target.set(bytes.subarray(0, count), filled);
      this.#connection.take(count);
      filled += count;
    }
    this.#leftBytes -= target.length;
    if (this.#leftBytes === 0) this.#end(true);
  }

  override _read(): void {
    if (this.#leftBytes === 0) {
      this.push(null);
      return;
    }
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, this.#leftBytes));
    this.fill(chunk).then(
      () => this.push(chunk),
      (error: Error) => this.destroy(error),
    );
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#end(false);
    done(error);
  }

  #end(isWhole: boolean): void {
    if (this.#isFinished) return;
    this.#isFinished = true;
    this.#finish(isWhole);
  }
}

function originOf({ isSecure, host, port }: BulkRequest): string {
  return `${isSecure ? 'https' : 'http'}://${host}:${port}`;
}

function encodeHead({ path, headers }: BulkRequest): string {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `GET ${path} HTTP/1.1\r\n${lines.join('')}connection: keep-alive\r\n\r\n`;
}

/** Up to the empty line, which is taken too. */
async function readHead(connection: RawConnection): Promise<string> {
  let head = '';
  while (head.length < HEAD_BYTES_MAX) {
    const bytes = await connection.bytes();
    const before = head.length;
    head += bytes.toString('latin1', 0, HEAD_BYTES_MAX);
    const end = head.indexOf('\r\n\r\n', Math.max(0, before - 3));
    connection.take(end < 0 ? bytes.length : end + 4 - before);
    if (end >= 0) return head.slice(0, end);
  }
  throw new StoreError('Transport', 'the head of the answer is too long');
}

interface Head {
  readonly statusCode: number;
  readonly headers: Record<string, string>;
  readonly lengthBytes: number;
  readonly keepsAlive: boolean;
}

/** undefined: an answer of another kind. */
function decodeHead(text: string): Head | undefined {
  const [statusLine = '', ...lines] = text.split('\r\n');
  const statusCode = Number(/^HTTP\/1\.1 (20[06])(?: |$)/.exec(statusLine)?.[1]);
  const headers: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const line of lines) {
    const [, name = '', value = ''] = /^([!#$%&'*+.^_`|~0-9a-zA-Z-]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
    const key = name.toLowerCase();
    // A head that could be read in two ways.
    if (key === '' || (key in headers && key === 'content-length')) return undefined;
    headers[key] = key in headers ? `${headers[key]}, ${value}` : value;
  }
  const length = headers['content-length'] ?? '';
  const isPlain = /^\d{1,15}$/.test(length) && headers['transfer-encoding'] === undefined;
  if (Number.isNaN(statusCode) || !isPlain) return undefined;
  const keepsAlive = !/\bclose\b/i.test(headers.connection ?? '');
  return { statusCode, headers, lengthBytes: Number(length), keepsAlive };
}

function aborted(): StoreError {
  return new StoreError('Aborted', 'the request was given up');
}
