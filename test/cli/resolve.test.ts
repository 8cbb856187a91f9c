import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseOptions, splitOptions } from '../../src/cli/parse-options.ts';
import { resolveConfig } from '../../src/cli/resolve.ts';
import { parseSource } from '../../src/cli/source.ts';
import type { MountConfig } from '../../src/mount/config.ts';
import { controlSocketPath, mountName } from '../../src/mount/directories.ts';
import { EXIT, MountError } from '../../src/mount/errors.ts';
import { headerMatcher, parseHeaderRules, parseMimeTypes } from '../../src/mount/header-rules.ts';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tsfs-resolve-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

function resolve(options: string, source = 'photos', uid = 0): Promise<MountConfig> {
  const { values } = parseOptions(splitOptions(options), '/');
  const environment = { HOME: '/home/joe', AWSACCESSKEYID: 'A', AWSSECRETACCESSKEY: 'S' };
  return resolveConfig(parseSource(source), '/mnt/photos', values, { uid, gid: uid, environment, foreground: false });
}

describe('the source', () => {
  it.each([
    ['photos', 'photos', '', 'photos'],
    ['photos:/', 'photos', '', 'photos'],
    ['photos:/2024/may/', 'photos', '2024/may/', 'photos:/2024/may'],
    ['photos:2024', 'photos', '2024/', 'photos:/2024'],
    ['tsfs#photos:/a:b', 'photos', 'a:b/', 'photos:/a:b'],
  ])('%s', (given, bucket, prefix, text) => {
    expect(parseSource(given)).toEqual({ bucket, prefix, text });
  });

  it.each(['', 'a', 'a/b', '-x', 'photos:/a//b', 'photos:/../x', 'photos:/a\nb', `photos:/${'x'.repeat(1000)}`])(
    'refuses %j',
    (given) => {
      expect(() => parseSource(given)).toThrow(MountError);
    },
  );

  it('reads its own form', () => {
    fc.assert(
      fc.property(fc.string(), (given) => {
        try {
          const source = parseSource(given);
          expect(parseSource(source.text)).toEqual(source);
        } catch (error) {
          expect(error).toBeInstanceOf(MountError);
        }
      }),
    );
  });
});

describe('the configuration', () => {
  it('has the documented defaults', async () => {
    const config = await resolve('url=https://s3.example.com');
    expect(config).toMatchObject({
      source: 'photos',
      prefix: '',
      store: { endpointUrl: 'https://s3.example.com', pathStyle: false, retries: 5, verifyCertificate: true },
      attributes: { uid: 0, gid: 0, umask: 0o022, mountpointUmask: 0o022 },
      freshness: { expireMs: 10_000, negativeTtlMs: 1000, maxNodes: 100_000 },
      kernel: { readOnly: false, allowOther: false, defaultPermissions: true },
      durability: 'remote',
    });
    expect(config.cache.minFreeBytes).toBeGreaterThan(0);
  });

  it('puts things where services have them, and normal users theirs', async () => {
    const system = await resolve('');
    const name = mountName({ ...system, endpointUrl: undefined });
    expect(system.cache.directory).toBe(`/var/cache/tsfs/${name}`);
    expect(system.stateDirectory).toBe(`/var/lib/tsfs/${name}`);
    expect(system.log.file).toBe(`/var/log/tsfs/${name}.log`);
    expect(system.controlSocket).toMatch(/^\/run\/tsfs\/photos-[0-9a-f]{16}\.sock$/);
    const user = await resolve('', 'photos', 4242);
    expect(user.cache.directory).toBe(`/home/joe/.cache/tsfs/${name}`);
    expect(user.stateDirectory).toBe(`/home/joe/.local/state/tsfs/${name}`);
    expect((await resolve('use_cache=/big,state_dir=/s')).cache.directory).toBe(`/big/${name}`);
  });

  it('names each mount differently, with short sockets', () => {
    const mount = { endpointUrl: 'https://a', bucket: 'b', prefix: '', mountpoint: '/m' };
    const variants = [
      mount,
      { ...mount, prefix: 'p/' },
      { ...mount, mountpoint: '/n' },
      { ...mount, endpointUrl: 'x' },
    ];
    expect(new Set(variants.map(mountName)).size).toBe(4);
    const socket = controlSocketPath('/run/user/1234567890/tsfs', `/${'ü'.repeat(200)}/${'x'.repeat(250)}`);
    expect(Buffer.byteLength(socket)).toBeLessThanOrEqual(107);
  });

  it('chooses path style where a bucket cannot be in the host name', async () => {
    expect((await resolve('url=http://127.0.0.1:8000')).store.pathStyle).toBe(true);
    expect((await resolve('url=http://[::1]:8000')).store.pathStyle).toBe(true);
    expect((await resolve('url=https://s3.example.com', 'www.example.com')).store.pathStyle).toBe(true);
    expect((await resolve('url=https://s3.example.com')).store.pathStyle).toBe(false);
    expect((await resolve('use_path_request_style')).store.pathStyle).toBe(true);
  });

  it("follows s3fs's rule for the mount point", async () => {
    expect((await resolve('allow_other')).attributes.mountpointUmask).toBe(0);
    expect((await resolve('allow_other,mp_umask=027')).attributes.mountpointUmask).toBe(0o027);
    expect((await resolve('allow_other,umask=002')).attributes.mountpointUmask).toBe(0o002);
  });

  it('reads the forms of use_sse', async () => {
    const encryption = async (options: string) => (await resolve(options)).objects.encryption;
    expect(await encryption('')).toBeUndefined();
    expect(await encryption('use_sse')).toEqual({ kind: 'store' });
    expect(await encryption('use_sse=1')).toEqual({ kind: 'store' });
    expect(await encryption('use_sse=kmsid:a:b')).toEqual({ kind: 'kms', keyId: 'a:b' });
    expect(await encryption('use_sse=custom:/k')).toEqual({ kind: 'customer', keyFile: '/k' });
    await expect(encryption('use_sse=custom')).rejects.toThrow('The option use_sse has one of the forms');
  });

  it('takes the larger of the two floors of free space', async () => {
    expect((await resolve('ensure_diskfree=100')).cache.minFreeBytes).toBe(100 * 1024 * 1024);
    expect((await resolve('ensure_diskfree=1,free_space_ratio=50')).cache.minFreeBytes).toBeGreaterThan(1024 * 1024);
  });

  it('survives the way to another process', async () => {
    const config = await resolve('use_sse,logfile=/l,curldbg');
    expect(structuredClone(config)).toEqual(config);
  });

  it('reads header files, and names the one that it cannot read', async () => {
    const mime = join(directory, 'mime.types');
    const ahbe = join(directory, 'headers');
    await writeFile(mime, 'image/jpeg jpg\n');
    await writeFile(ahbe, '.jpg Cache-Control max-age=60\n');
    const headers = headerMatcher((await resolve(`mime=${mime},ahbe_conf=${ahbe}`)).objects.headerRules);
    expect(headers('a/b.jpg')).toEqual({ 'content-type': 'image/jpeg', 'cache-control': 'max-age=60' });
    await expect(resolve('ahbe_conf=/none')).rejects.toThrow('The ahbe_conf file /none cannot be read (ENOENT).');
  });
});

describe('header rules', () => {
  it('match all, by suffix and by expression; later ones win', () => {
    const text = [
      '# comment',
      ' Cache-Control public',
      '.gz Content-Encoding  gzip',
      'reg:^/PRIVATE/(.*)[.]t2$ cache-control no-store, private ',
    ];
    const headers = headerMatcher(parseHeaderRules(text.join('\n'), 'f'));
    expect(headers('a.txt')).toEqual({ 'cache-control': 'public' });
    expect(headers('a.tar.gz')).toEqual({ 'cache-control': 'public', 'content-encoding': 'gzip' });
    expect(headers('PRIVATE/x.t2')).toEqual({ 'cache-control': 'no-store, private' });
  });

  it.each([
    ['.gz', 'Line 1 of the ahbe_conf file f has no header.'],
    ['.gz Host x', 'Line 1 of the ahbe_conf file f names Host, which S3 does not keep.'],
    ['\n\nreg:( Expires 0', 'Line 3 of the ahbe_conf file f has a regular expression that cannot be read.'],
    ['.a Expires a\x01b', 'Line 1 of the ahbe_conf file f has characters in the value of Expires that HTTP forbids.'],
  ])('refuses %j', (text, sentence) => {
    expect(() => parseHeaderRules(text, 'f')).toThrow(new MountError(sentence, EXIT.usage));
  });

  it('reads mime.types', () => {
    const headers = headerMatcher(parseMimeTypes('# x\ntext/html\thtml htm # y\napplication/x-none\nnonsense a\n'));
    expect([headers('a.htm'), headers('a.a')]).toEqual([{ 'content-type': 'text/html' }, {}]);
  });
});
