import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FsError } from '../../src/fs/errors.ts';
import {
  contentTypeByName,
  decodeAttributes,
  encodeAttributes,
  MAX_METADATA_BYTES,
  type WritableFields,
} from '../../src/fs/metadata.ts';
import type { ObjectHead } from '../../src/store/contract.ts';

function head(metadata: Record<string, string>, more: Partial<ObjectHead> = {}): ObjectHead {
  return { etag: 'e', sizeBytes: 0, lastModifiedMs: 1_700_000_000_000, metadata, ...more };
}

const PLAIN: WritableFields = {
  name: 'photo.jpg',
  kind: 'file',
  mode: 0o644,
  uid: 33,
  gid: 34,
  mtime: { sec: 1_600_000_000, nsec: 5 },
  ctime: { sec: 1_600_000_001, nsec: 0 },
  atime: undefined,
  extras: { headers: {}, metadata: {}, xattrs: {} },
};

describe('reading', () => {
  test('s3fs', () => {
    const fields = decodeAttributes(
      head({
        mode: '33188',
        uid: '33',
        gid: '34',
        mtime: '1600000000.000000005',
        ctime: '1600000001',
        atime: '1600000002.5',
        xattr: '%7B%22user.a%22%3A%22AAE%3D%22%7D',
        colour: 'blue',
      }),
      false,
    );
    expect(fields).toEqual({
      kind: 'file',
      mode: 0o644,
      uid: 33,
      gid: 34,
      mtime: { sec: 1_600_000_000, nsec: 5 },
      ctime: { sec: 1_600_000_001, nsec: 0 },
      atime: { sec: 1_600_000_002, nsec: 500_000_000 },
      extras: { headers: {}, metadata: { colour: 'blue' }, xattrs: { 'user.a': 'AAE=' } },
    });
  });

  test('an object that says nothing', () => {
    const fields = decodeAttributes(head({}, { contentType: 'image/png', cacheControl: 'no-store' }), false);
    expect(fields).toEqual({
      kind: 'file',
      mode: undefined,
      uid: undefined,
      gid: undefined,
      mtime: { sec: 1_700_000_000, nsec: 0 },
      ctime: undefined,
      atime: undefined,
      extras: { headers: { contentType: 'image/png', cacheControl: 'no-store' }, metadata: {}, xattrs: {} },
    });
  });

  test('the first name that makes sense decides', () => {
    const fields = decodeAttributes(head({ owner: '5', uid: 'root', 'goog-reserved-posix-gid': '6' }), false);
    expect(fields).toMatchObject({ uid: 5, gid: 6, extras: { metadata: { uid: 'root' } } });
  });

  test.each([
    [{ mode: '33188' }, 'file', 0o644],
    [{ mode: '33188' }, 'directory', undefined],
    [{ mode: '16877' }, 'directory', 0o755],
    [{ mode: '16877' }, 'file', undefined],
    [{ mode: '41471' }, 'symlink', 0o777],
    [{ mode: '41471' }, 'directory', undefined],
    [{ mode: '100644' }, 'file', 0o644],
    [{ mode: '40755' }, 'directory', 0o755],
    [{ mode: '0100600' }, 'file', 0o600],
    [{ permissions: '420' }, 'file', 0o644],
    [{ 'goog-reserved-posix-mode': '664' }, 'file', 0o664],
    [{ mode: '0' }, 'directory', undefined],
    [{ mode: '16384' }, 'directory', 0],
    [{ mode: '-1' }, 'file', undefined],
    [{ mode: '24996' }, 'file', undefined],
    [{ mode: '4294967295' }, 'file', undefined],
    [{ mode: '99999999999999999999' }, 'file', undefined],
    [{ mode: 'rwxr-xr-x' }, 'file', undefined],
    [{ mode: '' }, 'file', undefined],
  ])('mode %j on a %s', (metadata, kind, mode) => {
    expect(decodeAttributes(head(metadata), kind === 'directory')).toMatchObject({ kind, mode });
  });

  test.each([
    ['1', { sec: 1, nsec: 0 }],
    ['1.5', { sec: 1, nsec: 500_000_000 }],
    ['1.000000005', { sec: 1, nsec: 5 }],
    ['1.1234567891234', { sec: 1, nsec: 123_456_789 }],
    ['0', { sec: 0, nsec: 0 }],
    ['-1.25', { sec: -2, nsec: 750_000_000 }],
    ['1.', { sec: 1, nsec: 0 }],
  ])('time %j', (mtime, expected) => {
    expect(decodeAttributes(head({ mtime }), false).mtime).toEqual(expected);
  });

  const noTimes = [
    '',
    'now',
    '1e9',
    '0x10',
    ' 1',
    '253402300800',
    '1.-5',
    'NaN',
    '2020-01-01T00:00:00Z',
    '9'.repeat(40),
  ];
  test.each(noTimes)('time %j is none: Last-Modified', (mtime) => {
    const fields = decodeAttributes(head({ mtime }), false);
    expect(fields.mtime).toEqual({ sec: 1_700_000_000, nsec: 0 });
    expect(fields.extras?.metadata).toEqual({ mtime });
  });

  test.each(['-1', '4294967295', '1.5', '99999999999', 'www-data', ''])('owner %j is none', (uid) => {
    expect(decodeAttributes(head({ uid }), false).uid).toBeUndefined();
  });

  test.each(['%', '{', 'null', '[]', '"x"', '1', '%7B%22a%22'])(
    'extended attributes %j are left as they are',
    (xattr) => {
      const { extras } = decodeAttributes(head({ xattr }), false);
      expect(extras).toMatchObject({ xattrs: {}, metadata: { xattr } });
    },
  );

  test('single extended attributes that make no sense are left out', () => {
    const xattr = JSON.stringify({ 'user.ok': 'AA==', 'user.number': 1, 'user.text': 'not base64!', '': 'AA==' });
    expect(decodeAttributes(head({ xattr }), false).extras?.xattrs).toEqual({ 'user.ok': 'AA==' });
  });

  test('names of object prototypes are names like others', () => {
    const xattr = '%7B%22__proto__%22%3A%22AA%3D%3D%22%7D';
    const metadata = Object.fromEntries([
      ['__proto__', 'x'],
      ['constructor', 'y'],
    ]);
    const { extras } = decodeAttributes(head({ ...metadata, xattr }), false);
    expect(Object.entries(extras?.xattrs ?? {})).toEqual([['__proto__', 'AA==']]);
    expect(extras?.metadata.constructor).toBe('y');
  });

  test('never fails, whatever the metadata', () => {
    const names = ['mode', 'uid', 'gid', 'mtime', 'ctime', 'atime', 'xattr', 'permissions', 'goog-reserved-posix-mode'];
    const metadata = fc.dictionary(fc.constantFrom(...names, 'other'), fc.oneof(fc.string(), fc.integer().map(String)));
    fc.assert(
      fc.property(metadata, fc.boolean(), (values, isDirectory) => {
        const fields = decodeAttributes(head(values), isDirectory);
        expect(fields.kind === 'directory').toBe(isDirectory);
        expect(fields.mtime.nsec >= 0 && fields.mtime.nsec < 1e9 && Number.isSafeInteger(fields.mtime.sec)).toBe(true);
      }),
    );
  });
});

describe('writing', () => {
  test('what s3fs reads', () => {
    expect(encodeAttributes(PLAIN)).toEqual({
      contentType: 'image/jpeg',
      metadata: { mode: '33188', uid: '33', gid: '34', mtime: '1600000000.000000005', ctime: '1600000001' },
    });
  });

  test('only what is known, so that defaults stay defaults; but always the time', () => {
    const unknown = { ...PLAIN, mode: undefined, uid: undefined, gid: undefined, ctime: undefined };
    expect(encodeAttributes(unknown).metadata).toEqual({ mtime: '1600000000.000000005' });
  });

  test('directories and symbolic links', () => {
    expect(encodeAttributes({ ...PLAIN, kind: 'directory', mode: 0o755 })).toMatchObject({
      contentType: 'application/x-directory',
      metadata: { mode: '16877' },
    });
    expect(encodeAttributes({ ...PLAIN, kind: 'symlink', mode: undefined })).toMatchObject({
      contentType: 'application/octet-stream',
      metadata: { mode: '41471' },
    });
  });

  test('headers and strange metadata are written back', () => {
    const original = head(
      { colour: 'blue', mtime: 'yesterday', mode: 'dark' },
      { contentType: 'a/b', expires: 'never' },
    );
    const written = encodeAttributes({ name: 'x.png', ...decodeAttributes(original, false) });
    expect(written).toEqual({
      contentType: 'a/b',
      expires: 'never',
      metadata: { colour: 'blue', mode: 'dark', mtime: '1700000000' },
    });
  });

  test('comes back as it was', () => {
    const time = fc.record({
      sec: fc.integer({ min: -2_000_000_000, max: 253_402_300_799 }),
      nsec: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 999_999_999 })),
    });
    const id = fc.option(fc.integer({ min: 0, max: 2 ** 32 - 2 }), { nil: undefined });
    const fields = fc.record({
      kind: fc.constantFrom('file' as const, 'directory' as const, 'symlink' as const),
      mode: fc.integer({ min: 0, max: 0o7777 }),
      uid: id,
      gid: id,
      mtime: time,
      ctime: fc.option(time, { nil: undefined }),
      atime: fc.option(time, { nil: undefined }),
    });
    fc.assert(
      fc.property(fields, (given) => {
        const extras = { headers: { contentType: 'x/y' }, metadata: { k: 'v' }, xattrs: { 'user.ü"': 'AAE=' } };
        const written = encodeAttributes({ ...given, name: 'n', extras });
        const { contentType, metadata } = written;
        const read = decodeAttributes(head(metadata, contentType ? { contentType } : {}), given.kind === 'directory');
        expect(read).toEqual({ ...given, extras });
      }),
    );
  });

  test('more than the store keeps is refused', () => {
    const xattrs = (bytes: number) => ({ headers: {}, metadata: {}, xattrs: { 'user.x': 'A'.repeat(bytes) } });
    expect(encodeAttributes({ ...PLAIN, extras: xattrs(MAX_METADATA_BYTES - 200) }).metadata.xattr).toBeDefined();
    expect(() => encodeAttributes({ ...PLAIN, extras: xattrs(MAX_METADATA_BYTES) })).toThrow(FsError);
  });
});

test.each([
  ['a.jpg', 'image/jpeg'],
  ['A.JPG', 'image/jpeg'],
  ['a.jpg.bak', 'image/jpeg'],
  ['style.css', 'text/css'],
  ['x.tar.unknown', 'application/x-tar'],
  ['a.jpg.xyz1.xyz2', 'application/octet-stream'],
  ['.htaccess', 'application/octet-stream'],
  ['.png', 'application/octet-stream'],
  ['.hidden.png', 'image/png'],
  ['Makefile', 'application/octet-stream'],
  ['', 'application/octet-stream'],
  ['a.', 'application/octet-stream'],
])('Content-Type of %j', (name, type) => {
  expect(contentTypeByName(name)).toBe(type);
});
