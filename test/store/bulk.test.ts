/** Large ranges, received into the reader's memory. */
import { randomBytes } from 'node:crypto';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { S3Store } from '../../src/store/s3.ts';

const MIB = 1024 * 1024;
const CONTENT = randomBytes(6 * MIB);
const RANGE = { offset: MIB, length: 4 * MIB };
const PIECE_BYTES = 100_000;

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

interface TestStore {
  readonly store: S3Store;
  readonly sockets: Set<Socket>;
  requests: number;
}

async function serve(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<TestStore> {
  const sockets = new Set<Socket>();
  const server = http.createServer((request, response) => {
    served.requests += 1;
    answer(request, response);
  });
  server.on('connection', (socket) => sockets.add(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const credentials = { accessKeyId: 'id', secretAccessKey: 'secret' };
  const endpoint = `http://127.0.0.1:${port}`;
  const store = new S3Store({ endpoint, bucket: 'bucket', pathStyle: true, credentials, idleTimeoutMs: 1000 });
  const served: TestStore = { store, sockets, requests: 0 };
  closing.push(() => {
    store.close();
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return served;
}

function answerRange(request: IncomingMessage, response: ServerResponse, sentBytes = Number.POSITIVE_INFINITY): void {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '')?.map(Number) ?? [];
  const bytes = CONTENT.subarray(first, Number(last) + 1);
  response.writeHead(206, {
    etag: '"e"',
    'content-length': bytes.length,
    'content-range': `bytes ${first}-${last}/${CONTENT.length}`,
  });
  response.write(bytes.subarray(0, sentBytes));
  if (sentBytes >= bytes.length) response.end();
  else response.socket?.end();
}

async function collect(store: S3Store): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of (await store.get('key', { range: RANGE })).body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function readByFilling(store: S3Store): Promise<Buffer> {
  const { body, lengthBytes } = await store.get('key', { range: RANGE });
  const bytes = Buffer.alloc(lengthBytes);
  try {
    for (let at = 0; at < lengthBytes; at += PIECE_BYTES) await body.fill?.(bytes.subarray(at, at + PIECE_BYTES));
  } finally {
    await body[Symbol.asyncIterator]().return?.();
  }
  return bytes;
}

const expected = CONTENT.subarray(RANGE.offset, RANGE.offset + RANGE.length);

it('fills what it is given, and uses its connection again', async () => {
  const { store, sockets } = await serve(answerRange);
  expect((await readByFilling(store)).equals(expected)).toBe(true);
  expect((await readByFilling(store)).equals(expected)).toBe(true);
  expect(sockets.size).toBe(1);
});

it('can be iterated like any other body', async () => {
  const { store } = await serve(answerRange);
  expect((await collect(store)).equals(expected)).toBe(true);
});

it('waits for a slow reader', async () => {
  const { store } = await serve(answerRange);
  const { body } = await store.get('key', { range: RANGE });
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const bytes = Buffer.alloc(RANGE.length);
  await body.fill?.(bytes);
  expect(bytes.equals(expected)).toBe(true);
});

it('goes on with another connection when the server has closed this one', async () => {
  const { store, sockets } = await serve(answerRange);
  await readByFilling(store);
  for (const socket of sockets) socket.destroy();
  // The usual transport's, if the end of the first one was not noticed yet.
  expect((await collect(store)).equals(expected)).toBe(true);
});

it('reports a body that ends early, and one that stops', async () => {
  const torn = await serve((request, response) => answerRange(request, response, MIB));
  await expect(readByFilling(torn.store)).rejects.toMatchObject({ kind: 'Transport' });
  const silent = await serve((_, response) => {
    response.writeHead(206, {
      etag: '"e"',
      'content-length': 4 * MIB,
      'content-range': `bytes ${MIB}-${5 * MIB - 1}/${6 * MIB}`,
    });
    response.write('a');
  });
  await expect(readByFilling(silent.store)).rejects.toMatchObject({ kind: 'Timeout' });
});

it('leaves refusals and chunked bodies to the usual transport', async () => {
  const refusing = await serve((_, response) => {
    response.writeHead(412, { 'content-type': 'application/xml' });
    response.end('<Error><Code>PreconditionFailed</Code></Error>');
  });
  await expect(readByFilling(refusing.store)).rejects.toMatchObject({ kind: 'PreconditionFailed' });
  expect(refusing.requests).toBe(2);
  const odd = await serve((_, response) => {
    response.socket?.write('HTTP/1.1 206 OK\r\ncontent-length: 4194304\r\ncontent-length: 5\r\n\r\n');
  });
  await expect(readByFilling(odd.store)).rejects.toMatchObject({ kind: 'Transport' });
});

it('ends with its signal, before and within the body', async () => {
  const { store } = await serve(() => undefined);
  const before = new AbortController();
  const waiting = store.get('key', { range: RANGE, signal: before.signal });
  setTimeout(() => before.abort(), 50);
  await expect(waiting).rejects.toMatchObject({ kind: 'Aborted' });

  const within = new AbortController();
  const half = await serve((request, response) => {
    const [, first = 0, last = 0] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '')?.map(Number) ?? [];
    response.writeHead(206, {
      etag: '"e"',
      'content-length': last - first + 1,
      'content-range': `bytes ${first}-${last}/${6 * MIB}`,
    });
    response.write('a');
  });
  const { body } = await half.store.get('key', { range: RANGE, signal: within.signal });
  setTimeout(() => within.abort(), 50);
  await expect(body.fill?.(Buffer.alloc(MIB))).rejects.toMatchObject({ kind: 'Aborted' });
});
