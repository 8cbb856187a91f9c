/** What went wrong between this host and the bucket, in one sentence that says what to do. */
import { isStoreError, type StoreError, type StoreErrorKind } from '../store/contract.ts';
import type { MountConfig } from './config.ts';
import { MountError } from './errors.ts';

type Place = Pick<MountConfig, 'bucket'> & { readonly store: Pick<MountConfig['store'], 'endpointUrl' | 'region'> };

/** For a failed check of the bucket at mount time. Other errors are passed on as they are. */
export function storeFailure(error: unknown, place: Place): unknown {
  return isStoreError(error) ? new MountError(storeSentence(error, place), undefined, error) : error;
}

export function storeSentence(error: StoreError, place: Place): string {
  const endpoint = place.store.endpointUrl ?? 'Amazon S3';
  const { bucket } = place;
  const sentences: Partial<Record<StoreErrorKind, string>> = {
    NoSuchBucket: `There is no bucket ${bucket} at ${endpoint}.`,
    NotFound: `There is no bucket ${bucket} at ${endpoint}, or it has no such prefix.`,
    BadCredentials: `${endpoint} does not accept the key: check the key id and the secret in the passwd_file.`,
    AccessDenied: `${endpoint} denies access to the bucket ${bucket}: the key is known, but lacks the permission.`,
    ClockSkew: `The clock of this host differs too much from that of ${endpoint}: set it (NTP).`,
    Timeout: `${endpoint} did not answer in time.`,
    Throttled: `${endpoint} asks to slow down, and did so at every try.`,
    Unavailable: `${endpoint} is not available now (HTTP ${error.status ?? '5xx'}).`,
    QuotaExceeded: `The quota of the bucket ${bucket} at ${endpoint} is used up.`,
  };
  if (error.kind === 'Transport' || TLS_CODE.test(error.code ?? '')) return transportSentence(error.code, endpoint);
  const code = error.code === undefined ? error.kind : `${error.kind}, ${error.code}`;
  return sentences[error.kind] ?? `${endpoint} refused to show the bucket ${bucket} (${code}).`;
}

/** Of OpenSSL and Node; EPROTO: the other side does not speak TLS. */
const TLS_CODE = /^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|EPROTO)/;

function transportSentence(code: string | undefined, endpoint: string): string {
  if (code === 'ENOTFOUND') return `The host of ${endpoint} is unknown (DNS): check the url option.`;
  if (code === 'EAI_AGAIN') return `The name of ${endpoint} cannot be looked up now (DNS): is the network up?`;
  if (code === 'ECONNREFUSED') return `Nothing listens at ${endpoint}: check host and port of the url option.`;
  if (code === 'ENETUNREACH' || code === 'EHOSTUNREACH') return `There is no network route to ${endpoint}.`;
  if (code !== undefined && TLS_CODE.test(code)) {
    return `The TLS certificate or protocol of ${endpoint} is not acceptable (${code}).`;
  }
  return `The connection to ${endpoint} failed (${code ?? 'no answer'}).`;
}
