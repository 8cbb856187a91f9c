import { describe, expect, it } from 'vitest';
import { MountError } from '../../src/mount/errors.ts';
import { storeFailure, storeSentence } from '../../src/mount/messages.ts';
import { StoreError, type StoreErrorKind } from '../../src/store/contract.ts';

const PLACE = { bucket: 'photos', store: { endpointUrl: 'https://s3.example.com', region: undefined } };

function sentence(kind: StoreErrorKind, details: { status?: number; code?: string } = {}): string {
  return storeSentence(new StoreError(kind, 'internal words', details), PLACE);
}

describe('what went wrong at mount', () => {
  it.each([
    ['NoSuchBucket', {}, 'There is no bucket photos at https://s3.example.com.'],
    ['BadCredentials', {}, /does not accept the key/],
    ['AccessDenied', {}, /denies access to the bucket photos/],
    ['ClockSkew', {}, /The clock of this host/],
    ['Unavailable', { status: 503 }, /not available now \(HTTP 503\)/],
    ['Transport', { code: 'ENOTFOUND' }, /is unknown \(DNS\)/],
    ['Transport', { code: 'ECONNREFUSED' }, /Nothing listens/],
    ['Transport', {}, /failed \(no answer\)/],
    ['InvalidRequest', { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' }, /TLS certificate/],
    ['InvalidRequest', { code: 'KeyTooLong' }, /\(InvalidRequest, KeyTooLong\)/],
  ] as const)('%s %j', (kind, details, expected) => {
    expect(sentence(kind, details)).toMatch(expected);
    expect(sentence(kind, details)).not.toContain('internal words');
  });

  it('is one sentence for every kind', () => {
    const kinds: StoreErrorKind[] = ['NotFound', 'Timeout', 'Throttled', 'QuotaExceeded', 'Corrupt', 'Aborted'];
    for (const kind of kinds) expect(sentence(kind)).toMatch(/^[^\n]+\.$/);
  });

  it('leaves other errors as they are', () => {
    const defect = new TypeError('x');
    expect(storeFailure(defect, PLACE)).toBe(defect);
    expect(storeFailure(new StoreError('Timeout', 'x'), PLACE)).toBeInstanceOf(MountError);
  });
});
