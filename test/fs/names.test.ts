import { describe, expect, test } from 'vitest';
import { FsError } from '../../src/fs/errors.ts';
import { checkKey, inodeNumber, isValidName, parseListing } from '../../src/fs/names.ts';
import type { ListedObject } from '../../src/store/contract.ts';

function object(key: string, sizeBytes = 1): ListedObject {
  return { key, etag: 'e', sizeBytes, lastModifiedMs: 1000 };
}

function errorOf(task: () => void): string | undefined {
  try {
    task();
    return undefined;
  } catch (error) {
    return error instanceof FsError ? error.code : 'other';
  }
}

describe('names', () => {
  test.each(['a', '...', '.hidden', ' ', 'ü'.repeat(127), '💥', 'a\nb', 'a\\b', '%2F'])('%j is one', (name) => {
    expect(isValidName(name)).toBe(true);
  });

  test.each(['', '.', '..', 'a/b', '/', 'a\0b', 'x'.repeat(256), 'ü'.repeat(128), '\ud800'])('%j is none', (name) => {
    expect(isValidName(name)).toBe(false);
  });

  test('limits are told apart', () => {
    expect(errorOf(() => checkKey('a', 'd/a'))).toBeUndefined();
    expect(errorOf(() => checkKey('x'.repeat(255), 'x'.repeat(255)))).toBeUndefined();
    expect(errorOf(() => checkKey('x'.repeat(256), 'x'.repeat(256)))).toBe('ENAMETOOLONG');
    expect(errorOf(() => checkKey('a', `${'d/'.repeat(512)}`))).toBeUndefined();
    expect(errorOf(() => checkKey('a', `${'d/'.repeat(512)}a`))).toBe('ENAMETOOLONG');
    expect(errorOf(() => checkKey('..', 'd/..'))).toBe('EINVAL');
  });
});

describe('a page of a listing', () => {
  test('becomes names', () => {
    const page = { objects: [object('d/'), object('d/a.jpg', 7)], prefixes: ['d/sub/'] };
    expect(parseListing('d/', page)).toEqual({
      names: [
        { kind: 'directory', name: 'sub' },
        { kind: 'file', name: 'a.jpg', sizeBytes: 7, etag: 'e', lastModifiedMs: 1000 },
      ],
      marker: object('d/'),
      skipped: 0,
      shadowed: 0,
    });
  });

  test('keys that are no names are counted, not shown', () => {
    const objects = ['.', '..', '/lead', 'nul\0', 'x'.repeat(256), 'inner/key'].map((key) => object(key));
    const page = { objects: [...objects, object('size', -1)], prefixes: ['/', '../', './', 'no-slash'] };
    expect(parseListing('', page)).toEqual({
      names: [],
      marker: undefined,
      skipped: 11,
      shadowed: 0,
      sample: expect.any(String),
    });
  });

  test('keys of another prefix are not believed', () => {
    const page = { objects: [object('elsewhere/a')], prefixes: ['elsewhere/b/'] };
    expect(parseListing('d/', page)).toMatchObject({ names: [], skipped: 2 });
  });

  test('a directory hides the file of its name', () => {
    const page = { objects: [object('a'), object('b')], prefixes: ['a/'] };
    const parsed = parseListing('', page);
    expect(parsed.shadowed).toBe(1);
    expect(parsed.names.map(({ kind, name }) => [kind, name])).toEqual([
      ['directory', 'a'],
      ['file', 'b'],
    ]);
  });

  test('Hadoop’s folders are directories, files that only look like them are not', () => {
    const page = {
      objects: [object('a_$folder$', 0), object('b_$folder$', 5), object('_$folder$', 0), object('c_$folder$', 0)],
      prefixes: ['c/'],
    };
    expect(parseListing('', page).names.map(({ kind, name }) => [kind, name])).toEqual([
      ['directory', 'c'],
      ['directory', 'a'],
      ['file', 'b_$folder$'],
      ['file', '_$folder$'],
    ]);
    expect(parseListing('', page).names[1]).toEqual({ kind: 'directory', name: 'a', marker: '_$folder$' });
  });
});

test('inode numbers are the same for ever, and differ between buckets', () => {
  expect(inodeNumber('https://host/bucket', 'a/b.jpg')).toBe(inodeNumber('https://host/bucket', 'a/b.jpg'));
  expect(inodeNumber('https://host/bucket', 'a')).not.toBe(inodeNumber('https://host/other', 'a'));
  expect(inodeNumber('id', 'key')).toBe(228786697000979005n);
  for (let i = 0; i < 1000; i += 1) {
    const ino = inodeNumber('id', String(i));
    expect(ino > 1n && ino < 2n ** 63n).toBe(true);
  }
});
