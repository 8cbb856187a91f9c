import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeMetadata, encodeMetadata, fromAttributes, toEtag, toHead } from '../../src/store/s3-headers.ts';

describe('metadata values', () => {
  it('come back as they were, through headers that are printable ASCII', () => {
    const values = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: fc.constantFrom('%', '2', '5', 'C', '3', 'A', '9', ' ', 'é', 'x') }),
    );
    fc.assert(
      fc.property(values, (value) => {
        const encoded = encodeMetadata(value);
        expect(encoded).toMatch(/^$|^[\x21-\x7e]$|^[\x21-\x7e][\x20-\x7e]*[\x21-\x7e]$/);
        expect(decodeMetadata(encoded)).toBe(value);
      }),
      { numRuns: 2000 },
    );
  });

  it('of others are written back as they were read', () => {
    const foreign = fc.string({ unit: fc.constantFrom('%', '2', '5', 'C', '3', 'A', '9', 'b', '{') });
    fc.assert(
      fc.property(foreign, (value) => {
        expect(encodeMetadata(decodeMetadata(value))).toBe(value);
      }),
      { numRuns: 2000 },
    );
  });

  it.each([
    ['33188', '33188'],
    ['caf\u00e9', 'caf%C3%A9'],
    ['100%', '100%'],
    ['%C3%A9', '%25C3%25A9'],
    ['%7B%22user.a%22%7D', '%7B%22user.a%22%7D'],
    [' x ', '%20x%20'],
    ['a\nb', 'a%0Ab'],
  ])('%j is written as %j', (value, written) => {
    expect(encodeMetadata(value)).toBe(written);
  });

  it('that are broken stay as they are', () => {
    for (const value of ['%', '%zz', '%E9', '%C3%A9%zz', '\u00e9\u00ff']) expect(decodeMetadata(value)).toBe(value);
  });
});

describe('headers', () => {
  it('are left out where nothing is set', () => {
    expect(fromAttributes({ metadata: {} })).toEqual({ Metadata: {} });
    expect(toHead({ ETag: '"e"' }, 1)).toEqual({ etag: 'e', sizeBytes: 1, lastModifiedMs: 0, metadata: {} });
  });

  it('cannot break the request', () => {
    const fields = fromAttributes({ contentDisposition: 'a\r\nX-Evil: 1 \u{1f389}', metadata: {} });
    expect(Object.values(fields)).toContain('a%0D%0AX-Evil: 1 %F0%9F%8E%89');
  });

  it('name versions without quotes', () => {
    expect([toEtag('"a"'), toEtag('a'), toEtag('W/"a"'), toEtag('""'), toEtag(''), toEtag(undefined)]).toEqual([
      'a',
      'a',
      'a',
      undefined,
      undefined,
      undefined,
    ]);
  });

  it.each([undefined, -1, Number.NaN, 1.5, 2 ** 53])('with the size %s are refused', (sizeBytes) => {
    expect(() => toHead({ ETag: '"e"' }, sizeBytes)).toThrow('size');
  });
});
