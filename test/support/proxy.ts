/**
 * An HTTP proxy in front of an object store: counts requests by S3 operation, delays them, and makes them fail. The client's Host
 * header passes through unchanged, so that signatures stay valid. Also a command, for other clients:
 *
 *     node test/support/proxy.ts --upstream URL [--port P] [--latency MS]
 *
 * runs until SIGINT; the first line of output tells the endpoint; on SIGUSR2 and at the end it writes its counts and starts anew.
 */
import http from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { pipeline } from 'node:stream';
import { parseArgs } from 'node:util';
import { cutAfter, type Effect, errorXml, type Fault, FaultPlan, flipBit } from './faults.ts';
import { parseS3Request, type S3Operation, type S3Request } from './s3-operation.ts';

export type { Effect, Fault } from './faults.ts';
export type { S3Operation } from './s3-operation.ts';

export interface ProxyOptions {
  /** Endpoint of the store, `http://host:port`. */
  readonly upstream: string;
  /** A free one by default. */
  readonly port?: number;
  readonly latencyMs?: number;
  /** Of the faults' probabilities. */
  readonly seed?: number;
}

export interface LoggedRequest extends S3Request {
  /** Path and query. */
  readonly url: string;
  readonly headers: Readonly<http.IncomingHttpHeaders>;
  /** What the proxy did to it. */
  readonly fault: Effect['type'] | undefined;
}

const MAX_LOGGED_REQUESTS = 10_000;

export async function startProxy(options: ProxyOptions): Promise<FaultProxy> {
  const proxy = new FaultProxy(options);
  await proxy.accept();
  return proxy;
}

export class FaultProxy {
  readonly #server: http.Server;
  readonly #agent = new http.Agent({ keepAlive: true, timeout: 30_000 });
  readonly #upstream: URL;
  readonly #faults: FaultPlan;
  readonly #sockets = new Set<Socket>();
  #port: number;
  #latencyMs: number;
  #requests: LoggedRequest[] = [];
  #counts: Partial<Record<S3Operation, number>> = {};
  #inFlight = 0;
  #maxInFlight = 0;

  constructor(options: ProxyOptions) {
    this.#upstream = new URL(options.upstream);
    this.#port = options.port ?? 0;
    this.#latencyMs = options.latencyMs ?? 0;
    this.#faults = new FaultPlan(options.seed ?? 1);
    this.#server = http.createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
      this.#serve(request, response);
    });
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Requests since the start or the last `reset`, by operation; those never made are absent. */
  counts(): Partial<Record<S3Operation, number>> {
    return { ...this.#counts };
  }

  /** The same, one by one; the latest 10,000. */
  get requests(): readonly LoggedRequest[] {
    return this.#requests;
  }

  /** Requests that were under way at the same time, at most, since the last `reset`. */
  get maxInFlight(): number {
    return this.#maxInFlight;
  }

  /** Connections from clients that are open now. */
  get connections(): number {
    return this.#sockets.size;
  }

  reset(): void {
    this.#requests = [];
    this.#counts = {};
    this.#maxInFlight = this.#inFlight;
  }

  /** Added to every request before it is passed on. */
  setLatencyMs(ms: number): void {
    this.#latencyMs = ms;
  }

  /** Returns what ends the fault. */
  addFault(fault: Fault): () => void {
    return this.#faults.add(fault);
  }

  clearFaults(): void {
    this.#faults.clear();
  }

  /** Breaks all connections and refuses new ones, until `accept`. */
  async refuse(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await closed;
  }

  async accept(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.#port, '127.0.0.1', () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    if (this.#server.listening) await this.refuse();
    this.#agent.destroy();
  }

  #serve(request: http.IncomingMessage, response: http.ServerResponse): void {
    const s3Request = parseS3Request(request);
    const effect = this.#faults.next(s3Request);
    this.#record({ ...s3Request, url: request.url ?? '/', headers: request.headers, fault: effect?.type });
    this.#inFlight += 1;
    this.#maxInFlight = Math.max(this.#maxInFlight, this.#inFlight);
    response.once('close', () => {
      this.#inFlight -= 1;
    });
    const proceed = () => {
      if (!answerInstead(effect, request, response)) this.#forward(effect, request, response);
    };
    const latencyMs = this.#latencyMs + (effect?.type === 'slow' ? effect.latencyMs : 0);
    if (latencyMs === 0) proceed();
    else setTimeout(proceed, latencyMs);
  }

  #record(request: LoggedRequest): void {
    this.#counts[request.operation] = (this.#counts[request.operation] ?? 0) + 1;
    this.#requests.push(request);
    if (this.#requests.length > MAX_LOGGED_REQUESTS) this.#requests.shift();
  }

  #forward(effect: Effect | undefined, request: http.IncomingMessage, response: http.ServerResponse): void {
    const upstream = http.request({
      agent: this.#agent,
      host: this.#upstream.hostname,
      port: this.#upstream.port,
      method: request.method ?? 'GET',
      path: request.url ?? '/',
      headers: without(request.rawHeaders, ['expect']),
    });
    response.once('close', () => upstream.destroy());
    upstream.on('error', () => request.socket.resetAndDestroy());
    upstream.once('response', (answer) => {
      if (effect?.type === 'loseAnswer') {
        // The end of the answer: some stores act while they send it.
        answer.resume().once('end', () => request.socket.resetAndDestroy());
      } else {
        sendBack(effect, hasBody(request), answer, response);
      }
    });
    if (effect?.type === 'corrupt' && hasBody(request)) pipeline([request, flipBit(), upstream], ignoreBreak);
    // A side that breaks off takes the other with it, by `close` and `error` above: a pipeline would cost more and do no more.
    else request.pipe(upstream);
  }
}

/** True when the proxy answers by itself, or not at all. */
function answerInstead(
  effect: Effect | undefined,
  request: http.IncomingMessage,
  response: http.ServerResponse,
): boolean {
  const send = (status: number, body: string, headers: Readonly<Record<string, string>> = {}) => {
    request.resume().once('end', () => {
      response.writeHead(status, { 'content-type': 'application/xml', ...headers });
      response.end(request.method === 'HEAD' ? undefined : body);
    });
    return true;
  };
  switch (effect?.type) {
    case 'status':
      return send(effect.status, errorXml(effect.code), effect.headers);
    case 'errorIn200':
      return send(200, errorXml(effect.code));
    case 'answer':
      return send(effect.status, effect.body ?? '', effect.headers);
    case 'reset':
      request.socket.resetAndDestroy();
      return true;
    case 'stall':
      return effect.afterBytes === undefined;
    default:
      return false;
  }
}

function sendBack(
  effect: Effect | undefined,
  requestHadBody: boolean,
  answer: http.IncomingMessage,
  response: http.ServerResponse,
): void {
  response.writeHead(
    answer.statusCode ?? 502,
    without(answer.rawHeaders, ['connection', 'keep-alive', 'transfer-encoding']),
  );
  if (effect?.type === 'truncate') {
    pipeline([answer, cutAfter(effect.afterBytes, () => response.socket?.destroy()), response], ignoreBreak);
  } else if (effect?.type === 'stall') {
    pipeline([answer, cutAfter(effect.afterBytes ?? 0, () => {}), response], ignoreBreak);
  } else if (effect?.type === 'corrupt' && !requestHadBody && lengthOf(answer) <= (effect.upToBytes ?? Infinity)) {
    pipeline([answer, flipBit(), response], ignoreBreak);
  } else {
    answer.once('error', () => response.destroy());
    answer.pipe(response);
  }
}

/** A side that breaks off takes the other with it, by `close` and `error` above: there is nobody to report it to. */
function ignoreBreak(): void {}

function lengthOf(answer: http.IncomingMessage): number {
  return Number(answer.headers['content-length'] ?? 0);
}

function hasBody(request: http.IncomingMessage): boolean {
  return Number(request.headers['content-length'] ?? 0) > 0 || request.headers['transfer-encoding'] !== undefined;
}

/** Raw headers (name, value, name, …) but for some. */
function without(rawHeaders: readonly string[], names: readonly string[]): string[] {
  return rawHeaders.filter((_, index) => !names.includes(rawHeaders[index - (index % 2)]?.toLowerCase() ?? ''));
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { upstream: { type: 'string' }, port: { type: 'string' }, latency: { type: 'string' } },
  });
  if (values.upstream === undefined) throw new Error('--upstream URL is missing');
  const proxy = await startProxy({
    upstream: values.upstream,
    port: Number(values.port ?? 0),
    latencyMs: Number(values.latency ?? 0),
  });
  const report = () => {
    process.stdout.write(`${JSON.stringify(proxy.counts())}\n`);
    proxy.reset();
  };
  process.stdout.write(`${JSON.stringify({ endpoint: proxy.endpoint })}\n`);
  process.on('SIGUSR2', report);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      report();
      void proxy.stop();
    });
  }
}
