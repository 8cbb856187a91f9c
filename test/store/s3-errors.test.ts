import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { isStoreError, StoreError } from '../../src/store/contract.ts';
import { kindOf, regionFromError, toStoreError } from '../../src/store/s3-errors.ts';

describe('errors', () => {
  it.each([
    ['NoSuchKey', 404, 'NotFound'],
    ['NoSuchBucket', 404, 'NoSuchBucket'],
    [undefined, 404, 'NotFound'],
    [undefined, 304, 'NotModified'],
    [undefined, 403, 'AccessDenied'],
    ['SignatureDoesNotMatch', 403, 'BadCredentials'],
    ['ExpiredToken', 400, 'BadCredentials'],
    ['RequestTimeTooSkewed', 403, 'ClockSkew'],
    ['QuotaExceeded', 403, 'QuotaExceeded'],
    ['SlowDown', 503, 'Throttled'],
    [undefined, 429, 'Throttled'],
    [undefined, 503, 'Unavailable'],
    ['SomethingNew', 500, 'Unavailable'],
    ['ConditionalRequestConflict', 409, 'Unavailable'],
    ['RequestTimeout', 400, 'Timeout'],
    ['ECONNRESET', undefined, 'Transport'],
    ['HPE_INVALID_CONSTANT', undefined, 'Transport'],
    ['CERT_HAS_EXPIRED', undefined, 'InvalidRequest'],
    ['BadDigest', 400, 'Corrupt'],
    [undefined, 501, 'NotSupported'],
    ['SomethingNew', 400, 'InvalidRequest'],
    ['SyntaxError', 200, 'Transport'],
  ] as const)('%s with status %s is %s', (code, status, kind) => {
    expect(kindOf(code, status)).toBe(kind);
  });

  it('keep code, status and the time to wait', () => {
    const $response = { headers: { 'retry-after': '3' } };
    const raw = { name: 'SlowDown', message: 'Reduce\nyour rate', $metadata: { httpStatusCode: 503 }, $response };
    expect(toStoreError(raw, 'GET a')).toMatchObject({
      kind: 'Throttled',
      code: 'SlowDown',
      status: 503,
      retryAfterMs: 3000,
      message: 'GET a: SlowDown (HTTP 503): Reduce',
    });
  });

  it('believe no endless Retry-After', () => {
    const waitFor = (value: string) =>
      toStoreError({ $metadata: { httpStatusCode: 503 }, $response: { headers: { 'retry-after': value } } }, 'GET a')
        .retryAfterMs;
    expect(waitFor('99999999')).toBe(3_600_000);
    expect(waitFor(new Date(0).toUTCString())).toBe(0);
    expect(waitFor('soon')).toBeUndefined();
  });

  it('are told apart from the end of the caller', () => {
    expect(toStoreError(new Error('anything'), 'GET a', AbortSignal.abort()).kind).toBe('Aborted');
  });

  it('do not carry the SDK\u2019s error with its signature', () => {
    const raw = Object.assign(new Error('wrong'), { Code: 'SignatureDoesNotMatch', StringToSign: 'private' });
    expect(inspect(toStoreError(raw, 'GET a'), { depth: 5, showHidden: true })).not.toContain('private');
  });

  it.each([null, undefined, 'text', 7, {}])('are made of %j too', (thrown) => {
    expect(toStoreError(thrown, 'GET a')).toMatchObject({ kind: 'InvalidRequest' });
  });

  it('are known by kind', () => {
    const error = new StoreError('NotFound', 'x');
    expect([isStoreError(error), isStoreError(error, 'NotFound'), isStoreError(error, 'Timeout', 'NotFound')]).toEqual([
      true,
      true,
      true,
    ]);
    expect([isStoreError(error, 'Timeout'), isStoreError(new Error('x'))]).toEqual([false, false]);
  });

  it('tell the region, when it is one', () => {
    const redirect = (region: unknown) => ({
      $metadata: { httpStatusCode: 301 },
      $response: { headers: { 'x-amz-bucket-region': region as string } },
    });
    expect(regionFromError(redirect('eu-west-1'))).toBe('eu-west-1');
    expect(regionFromError(redirect('evil.example/?'))).toBeUndefined();
    expect(regionFromError({ $metadata: { httpStatusCode: 500 }, Region: 'eu-west-1' })).toBeUndefined();
    expect(regionFromError({ $metadata: { httpStatusCode: 400 }, Region: 'eu-west-1' })).toBe('eu-west-1');
  });
});
