/** The transport against servers that are no S3: TLS, proxies, servers that never speak. */
import http, { type RequestListener } from 'node:http';
import https from 'node:https';
import net, { type AddressInfo, type Server } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { type S3Options, S3Store } from '../../src/store/s3.ts';
import { read } from './conformance.ts';

/** Self-signed, for 127.0.0.1 and localhost; used nowhere else. */
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgvZFj5eDdE/uO3SaP
tlM9NjTJJq9pCIv3UanIXAZixrWhRANCAASdmKyDyRYxlDA9DfM8xYEvRWzjDLoX
3BDbyp3f/nYnJqqDBAXkOF1RVKMAnDARlS50HhO84jcYoPJCz6g9MOMv
-----END PRIVATE KEY-----`;
const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBnDCCAUGgAwIBAgIUV9vh6W9eY+HRTePOAbhE/R48L28wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTAzNDU1MFoYDzIxMjYxMDI4
MDM0NTUwWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASdmKyDyRYxlDA9DfM8xYEvRWzjDLoX3BDbyp3f/nYnJqqDBAXkOF1R
VKMAnDARlS50HhO84jcYoPJCz6g9MOMvo28wbTAdBgNVHQ4EFgQUC2dSH6vQ3Tz4
sQIfjJroipjOaXMwHwYDVR0jBBgwFoAUC2dSH6vQ3Tz4sQIfjJroipjOaXMwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSQAwRgIhALksgV1IhdRua2oGMLdJBFkBMzlAiJ17VOT6lti5QGftAiEA
gEk54gI//PodUi0kmOvg66xeA/ethqIyeX29g6Zl2Qs=
-----END CERTIFICATE-----`;

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

async function listen(server: Server): Promise<number> {
  const sockets = new Set<net.Socket>();
  server.on('connection', (socket: net.Socket) => sockets.add(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

function open(endpoint: string, options: Partial<S3Options> = {}): S3Store {
  const credentials = { accessKeyId: 'id', secretAccessKey: 'secret' };
  const store = new S3Store({ endpoint, bucket: 'bucket', pathStyle: true, credentials, ...options });
  closing.push(() => store.close());
  return store;
}

const answerHello: RequestListener = (_, response) => {
  response.writeHead(200, { etag: '"e"', 'content-length': '5' });
  response.end('hello');
};

describe('TLS', () => {
  it('is checked, unless told otherwise', async () => {
    const port = await listen(https.createServer({ key: KEY, cert: CERTIFICATE }, answerHello));
    const trusting = open(`https://127.0.0.1:${port}`, { verifyTls: false });
    expect(await read(trusting, 'key')).toBe('hello');
    expect(await read(trusting, 'key')).toBe('hello');
    // Not worth a retry, so it is no transport error.
    await expect(open(`https://127.0.0.1:${port}`).head('key')).rejects.toMatchObject({
      kind: 'InvalidRequest',
      code: 'DEPTH_ZERO_SELF_SIGNED_CERT',
    });
  });

  it('that never begins counts as no connection', async () => {
    const port = await listen(net.createServer());
    const store = open(`https://127.0.0.1:${port}`, { connectTimeoutMs: 100 });
    await expect(store.head('key')).rejects.toMatchObject({
      kind: 'Timeout',
      message: expect.stringContaining('no connection'),
    });
  });
});

describe('other servers', () => {
  it('that do not speak HTTP are a failure of the transport', async () => {
    const port = await listen(net.createServer((socket) => socket.end('220 mail.example ESMTP\r\n')));
    await expect(open(`http://127.0.0.1:${port}`).head('key')).rejects.toMatchObject({ kind: 'Transport' });
  });

  it('may be reached through a proxy', async () => {
    const asked: string[] = [];
    const port = await listen(
      http.createServer((request, response) => {
        asked.push(request.url ?? '');
        answerHello(request, response);
      }),
    );
    const store = open('http://storage.invalid', { proxy: `http://127.0.0.1:${port}` });
    expect(await read(store, 'a b')).toBe('hello');
    expect(asked).toEqual(['http://storage.invalid/bucket/a%20b?x-id=GetObject']);
  });

  it('that close idle connections are connected to again', async () => {
    let connections = 0;
    const server = http.createServer((request, response) => {
      answerHello(request, response);
      response.once('close', () => request.socket.end());
    });
    server.on('connection', () => {
      connections += 1;
    });
    const store = open(`http://127.0.0.1:${await listen(server)}`);
    for (let n = 0; n < 3; n += 1) {
      expect(await read(store, 'key')).toBe('hello');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(connections).toBe(3);
  });
});
