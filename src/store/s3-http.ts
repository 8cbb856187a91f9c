/**
 * The SDK's HTTP transport, on `node:http` and `node:https`. The SDK's own handler neither reports a body that cannot be
 * read (the request would hang) nor tells a slow server from a slow reader of the body, so this is ours.
 */
import http from 'node:http';
import https from 'node:https';
import { pipeline, Readable, Transform, type TransformCallback } from 'node:stream';
import { type BulkRequest, BulkTransport } from './bulk-http.ts';
import { StoreError } from './contract.ts';

export interface HttpOptions {
  readonly maxConnections: number;
  /** DNS, TCP and TLS together may go so long without progress. */
  readonly connectTimeoutMs: number;
  /** A request or an answer may go so long without a byte moving. */
  readonly idleTimeoutMs: number;
  readonly verifyTls: boolean;
  /** False: the certificate may be for another host. */
  readonly verifyHostname: boolean;
  /** URL of an HTTP proxy; absent: the environment's `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`. */
  readonly proxy?: string;
}

/** A signed request, as the SDK hands it over. */
interface WireRequest {
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number;
  readonly method: string;
  readonly path: string;
  readonly query?: Readonly<Record<string, string | readonly string[] | null>>;
  readonly headers: Record<string, string>;
  readonly body?: unknown;
}

interface WireResponse {
  readonly statusCode: number;
  readonly headers: Record<string, string>;
  readonly body: Readable;
}

/** An idle connection is given up before common servers do (60 s and more), so that a request rarely meets a closed one. */
const KEEP_ALIVE_MS = 50_000;
/** A listing of 1000 keys of 1024 bytes takes less than 4 MiB, percent-encoded. */
const DOCUMENT_BYTES_MAX = 8 * 1024 * 1024;
/** Ranges from this size on are worth a transport of their own. Larger than what is asked for before anybody knows whether it is there. */
const BULK_MIN_BYTES = 2 * 1024 * 1024;
const PROXY_VARIABLES = ['HTTP_PROXY', 'HTTPS_PROXY'].flatMap((name) => [name, name.toLowerCase()]);

export class HttpTransport {
  readonly metadata = { handlerProtocol: 'http/1.1' };
  readonly #options: HttpOptions;
  readonly #plain: http.Agent;
  readonly #secure: https.Agent;
  /** undefined: all requests go by way of a proxy, or may. */
  readonly #bulk: BulkTransport | undefined;

  constructor(options: HttpOptions) {
    this.#options = options;
    const { proxy } = options;
    const tls = {
      rejectUnauthorized: options.verifyTls,
      ...(options.verifyHostname ? {} : { checkServerIdentity: () => undefined }),
    };
    const isDirect = proxy === undefined && PROXY_VARIABLES.every((name) => process.env[name] === undefined);
    if (isDirect) this.#bulk = new BulkTransport({ ...options, tls, keepAliveMs: KEEP_ALIVE_MS });
    const proxyEnv = proxy === undefined ? process.env : { HTTP_PROXY: proxy, HTTPS_PROXY: proxy };
    const agent = {
      keepAlive: true,
      maxSockets: options.maxConnections,
      scheduling: 'lifo',
      timeout: KEEP_ALIVE_MS,
      proxyEnv,
    } as const;
    this.#plain = new http.Agent(agent);
    this.#secure = new https.Agent({ ...agent, ...tls });
  }

  async handle(
    request: WireRequest,
    { abortSignal }: { abortSignal?: unknown } = {},
  ): Promise<{ response: WireResponse }> {
    const signal = abortSignal instanceof AbortSignal ? abortSignal : undefined;
    if (signal?.aborted) throw aborted();
    const response = isBulk(request) ? await this.#bulk?.get(toBulk(request), signal) : undefined;
    return response === undefined ? this.#send(request, signal) : { response };
  }

  #send(request: WireRequest, signal: AbortSignal | undefined): Promise<{ response: WireResponse }> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(aborted());
        return;
      }
      const outgoing = this.#open(request);
      const onAbort = () => outgoing.destroy(aborted());
      signal?.addEventListener('abort', onAbort, { once: true });
      outgoing.once('close', () => signal?.removeEventListener('abort', onAbort));
      outgoing.on('error', reject);
      outgoing.once('response', (incoming) => {
        // An answer before the end of the body is a refusal: what is left need not be sent.
        incoming.once('end', () => {
          if (!outgoing.writableFinished) outgoing.destroy();
        });
        // Whoever reads the body gets its error; a body that nobody reads yet must not end the process.
        incoming.on('error', () => {});
        resolve({ response: toResponse(incoming, isObject(request, incoming) ? Infinity : DOCUMENT_BYTES_MAX) });
      });
      this.#watch(outgoing);
      send(request, outgoing, reject);
    });
  }

  destroy(): void {
    this.#plain.destroy();
    this.#secure.destroy();
    this.#bulk?.destroy();
  }

  /** Part of the SDK's interface for handlers; there is nothing to change after construction. */
  updateHttpClientConfig(): void {}

  httpHandlerConfigs(): Record<string, never> {
    return {};
  }

  #open(request: WireRequest): http.ClientRequest {
    const secure = request.protocol === 'https:';
    return (secure ? https : http).request({
      agent: secure ? this.#secure : this.#plain,
      host: hostOf(request),
      ...(request.port === undefined ? {} : { port: request.port }),
      method: request.method,
      path: request.path + queryString(request.query),
      headers: request.headers,
    });
  }

  /** Ends the request when no byte moves for too long. */
  #watch(outgoing: http.ClientRequest): void {
    const { connectTimeoutMs, idleTimeoutMs } = this.#options;
    let incoming: http.IncomingMessage | undefined;
    outgoing.once('response', (response) => {
      incoming = response;
    });
    outgoing.once('socket', (socket) => {
      let connecting = socket.connecting;
      const onTimeout = () => {
        if (incoming !== undefined && incoming.readableLength > 0) {
          // Bytes are there: the reader is slow, not the server.
          socket.setTimeout(idleTimeoutMs);
          return;
        }
        const error = new StoreError('Timeout', connecting ? 'no connection in time' : 'no progress for too long');
        incoming?.destroy(error);
        outgoing.destroy(error);
      };
      socket.setTimeout(connecting ? connectTimeoutMs : idleTimeoutMs);
      socket.on('timeout', onTimeout);
      if (connecting) {
        // An HTTPS agent hands out the TLS socket, which emits `connect` before its handshake.
        socket.once('encrypted' in socket ? 'secureConnect' : 'connect', () => {
          connecting = false;
          socket.setTimeout(idleTimeoutMs);
        });
      }
      outgoing.once('close', () => socket.removeListener('timeout', onTimeout));
    });
  }
}

function hostOf({ hostname }: WireRequest): string {
  return hostname.replace(/^\[(.*)\]$/, '$1');
}

function isBulk({ method, headers }: WireRequest): boolean {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? [];
  return method === 'GET' && Number(last) - Number(first) >= BULK_MIN_BYTES - 1;
}

function toBulk(request: WireRequest): BulkRequest {
  const isSecure = request.protocol === 'https:';
  const { port = isSecure ? 443 : 80, headers } = request;
  const path = request.path + queryString(request.query);
  return { host: hostOf(request), port, isSecure, path, headers: { host: request.hostname, ...headers } };
}

function send(request: WireRequest, outgoing: http.ClientRequest, reject: (error: Error) => void): void {
  const { body } = request;
  if (body instanceof Readable) {
    pipeline(body, outgoing, (error) => {
      if (error) reject(error);
    });
  } else if (typeof body === 'string' || body instanceof Uint8Array) {
    outgoing.end(body);
  } else {
    outgoing.end();
  }
}

/** The body of the answer is an object's, of any size, and not a document that the SDK reads as a whole. */
function isObject(request: WireRequest, { statusCode = 0 }: http.IncomingMessage): boolean {
  return request.query?.['x-id'] === 'GetObject' && statusCode >= 200 && statusCode < 300;
}

function toResponse(incoming: http.IncomingMessage, limitBytes: number): WireResponse {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(incoming.headers)) {
    headers[name] = Array.isArray(value) ? value.join(', ') : (value ?? '');
  }
  // The parser passes no more on than what Content-Length says.
  const isBounded = limitBytes === Infinity || Number(headers['content-length']) <= limitBytes;
  if (isBounded) return { statusCode: incoming.statusCode ?? 0, headers, body: incoming };
  const body = pipeline(incoming, new Limit(limitBytes), () => {});
  body.on('error', () => {});
  return { statusCode: incoming.statusCode ?? 0, headers, body };
}

/** Passes so many bytes on, and fails at more. */
class Limit extends Transform {
  #leftBytes: number;

  constructor(limitBytes: number) {
    super();
    this.#leftBytes = limitBytes;
  }

  override _transform(chunk: Uint8Array, _encoding: string, done: TransformCallback): void {
    this.#leftBytes -= chunk.length;
    if (this.#leftBytes < 0) done(new StoreError('Transport', 'the answer is too long'));
    else done(null, chunk);
  }
}

function queryString(query: WireRequest['query']): string {
  const pairs = Object.entries(query ?? {}).flatMap(([name, value]) => {
    const values = value === null || typeof value === 'string' ? [value] : value;
    return values.map((one) => (one ? `${percentEncode(name)}=${percentEncode(one)}` : `${percentEncode(name)}=`));
  });
  return pairs.length === 0 ? '' : `?${pairs.join('&')}`;
}

/** As SigV4 wants it: everything but the unreserved characters of RFC 3986. */
function percentEncode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

function aborted(): StoreError {
  return new StoreError('Aborted', 'the request was given up');
}
