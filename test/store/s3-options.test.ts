/** How the options of the S3 store show in its requests. */
import { randomBytes } from 'node:crypto';
import dns from 'node:dns';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { S3Store } from '../../src/store/s3.ts';
import { endpointUrl, initialRegion, regionOfHost } from '../../src/store/s3-client.ts';
import { freshBucket, openBucket, testServer } from '../support/buckets.ts';
import { type FaultProxy, startProxy } from '../support/proxy.ts';
import { bytesOf, collect, md5, PLAIN, read } from './conformance.ts';

describe('regions', () => {
  it.each([
    ['s3.eu-west-3.amazonaws.com', 'eu-west-3'],
    ['s3-us-west-2.amazonaws.com', 'us-west-2'],
    ['s3.dualstack.ap-southeast-1.amazonaws.com', 'ap-southeast-1'],
    ['bucket.s3.eu-central-1.amazonaws.com', 'eu-central-1'],
    ['s3.cn-north-1.amazonaws.com.cn', 'cn-north-1'],
    ['s3.amazonaws.com', undefined],
    ['fra1.digitaloceanspaces.com', 'fra1'],
    ['bucket.nyc3.digitaloceanspaces.com', 'nyc3'],
    ['nl-ams-1.linodeobjects.com', 'nl-ams-1'],
    ['ewr1.vultrobjects.com', 'ewr1'],
    ['sos-ch-gva-2.exo.io', 'ch-gva-2'],
    ['s3.fr-par.scw.cloud', 'fr-par'],
    ['s3.eu-central-003.backblazeb2.com', 'eu-central-003'],
    ['minio.example.org', undefined],
    ['127.0.0.1', undefined],
  ])('of %s is %s', (host, region) => {
    expect(regionOfHost(host)).toBe(region);
  });

  it('are chosen: option, host, default', () => {
    const endpoint = 'https://fra1.digitaloceanspaces.com';
    expect(initialRegion({ endpoint, region: 'given' })).toBe('given');
    expect(initialRegion({ endpoint })).toBe('fra1');
    expect(initialRegion({ endpoint: 'storage.example.org' })).toBe('us-east-1');
    expect(initialRegion({})).toBe('us-east-1');
  });
});

describe('endpoints', () => {
  it('may leave out the scheme', () => {
    expect(endpointUrl('host.example:9000')?.href).toBe('https://host.example:9000/');
    expect(endpointUrl('http://host.example')?.href).toBe('http://host.example/');
    expect(endpointUrl(undefined)).toBeUndefined();
    expect(() => endpointUrl('http://')).toThrow(TypeError);
  });

  it('describe the bucket', () => {
    expect(new S3Store({ endpoint: 'https://user:pw@host.example', bucket: 'b' }).description).toBe(
      'https://host.example/b',
    );
    expect(new S3Store({ bucket: 'b' }).description).toBe('s3://b');
  });
});

describe('requests', () => {
  let proxy: FaultProxy;
  let bucket: string;
  beforeAll(async () => {
    bucket = await freshBucket();
    proxy = await startProxy({ upstream: testServer().endpoint });
  });
  afterEach(() => {
    proxy.reset();
    vi.restoreAllMocks();
  });
  afterAll(() => proxy.stop());

  const open = (options = {}) => openBucket({ ...testServer(), endpoint: proxy.endpoint }, bucket, options);

  it('carry the length, no checksums nobody asked for and no chunks', async () => {
    const store = open();
    await store.put('plain', bytesOf('abc'), { attributes: PLAIN });
    await store.put('summed', { ...bytesOf('abc'), md5: md5('abc', 'base64') }, { attributes: PLAIN });
    await store.deleteMany(['plain', 'summed']);
    const [plain, summed, deleted] = proxy.requests.map(({ headers }) => headers);
    for (const headers of [plain, summed, deleted]) {
      expect(Object.keys(headers ?? {}).filter((name) => /checksum|trailer|encoding|expect/.test(name))).toEqual([]);
      expect(Number(headers?.['content-length'])).toBeGreaterThan(0);
    }
    expect(plain?.['content-md5']).toBeUndefined();
    expect(summed).toMatchObject({ 'content-md5': md5('abc', 'base64'), 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' });
    expect(deleted?.['content-md5']).toMatch(/^[\w+/]{22}==$/);
    store.close();
  });

  it('name the bucket in the host, unless told otherwise', async () => {
    const toLoopback = (_host: string, options: object, done: (error: null, ...address: unknown[]) => void) =>
      'all' in options && options.all === true
        ? done(null, [{ address: '127.0.0.1', family: 4 }])
        : done(null, '127.0.0.1', 4);
    vi.spyOn(dns, 'lookup').mockImplementation(toLoopback as unknown as typeof dns.lookup);
    const endpoint = proxy.endpoint.replace('127.0.0.1', 'localhost');
    const store = openBucket({ ...testServer(), endpoint }, bucket, { pathStyle: false });
    await store.put('dir/a b', bytesOf('abc'), { attributes: PLAIN });
    expect(await read(store, 'dir/a b')).toBe('abc');
    expect(proxy.requests[0]).toMatchObject({
      bucket,
      key: 'dir/a b',
      url: expect.stringMatching(/^\/dir\/a%20b(\?|$)/),
      headers: { host: expect.stringMatching(new RegExp(`^${bucket}\\.localhost:`)) },
    });
    store.close();
  });

  it('set access, storage class and payer', async () => {
    const store = open({ writes: { acl: 'public-read', storageClass: 'STANDARD' }, requesterPays: true });
    await store.put('public', bytesOf('abc'), { attributes: PLAIN });
    const anonymous = open({ credentials: 'anonymous' });
    expect(await read(anonymous, 'public')).toBe('abc');
    await store.copy('public', 'public2', { attributes: PLAIN });
    expect(await read(anonymous, 'public2')).toBe('abc');
    for (const { headers } of proxy.requests.filter(({ operation }) => operation !== 'GET')) {
      expect(headers).toMatchObject({
        'x-amz-acl': 'public-read',
        'x-amz-storage-class': 'STANDARD',
        'x-amz-request-payer': 'requester',
      });
    }
    await open().put('private', bytesOf('abc'), { attributes: PLAIN });
    await expect(read(anonymous, 'private')).rejects.toMatchObject({ kind: 'AccessDenied' });
    store.close();
  });

  it('encrypt with the customer\u2019s key, everywhere', async () => {
    const store = open({ writes: { encryption: { type: 'customer', key: randomBytes(32) } } });
    await store.put('encrypted', bytesOf('secret'), { attributes: PLAIN });
    expect(await read(store, 'encrypted')).toBe('secret');
    expect((await store.head('encrypted')).sizeBytes).toBe(6);
    const upload = await store.createMultipart('parts', { attributes: PLAIN });
    const part = await store.uploadPart(upload, 1, bytesOf('part'));
    await store.completeMultipart(upload, [part]);
    expect((await collect((await store.get('parts')).body)).toString()).toBe('part');
    await expect(open().get('encrypted')).rejects.toMatchObject({ kind: 'InvalidRequest' });
    store.close();
  });

  it.each([
    [{ type: 'aes256' }, { 'x-amz-server-side-encryption': 'AES256' }],
    [{ type: 'kms' }, { 'x-amz-server-side-encryption': 'aws:kms' }],
    [
      { type: 'kms', keyId: 'id' },
      { 'x-amz-server-side-encryption': 'aws:kms', 'x-amz-server-side-encryption-aws-kms-key-id': 'id' },
    ],
  ])('ask for encryption by the store: %j', async (encryption, headers) => {
    proxy.addFault({ effect: { type: 'answer', status: 200, headers: { etag: '"e"' } }, times: 1 });
    const store = open({ writes: { encryption } });
    await store.put('sse', bytesOf('abc'), { attributes: PLAIN });
    expect(proxy.requests[0]?.headers).toMatchObject(headers);
    store.close();
  });
});
