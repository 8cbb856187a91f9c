/** The first argument of a mount: which bucket, and what of it. */
import { EXIT, MountError } from '../mount/errors.ts';

export interface Source {
  readonly bucket: string;
  /** '' or `a/b/`. */
  readonly prefix: string;
  /** `BUCKET` or `BUCKET:/a/b`: what the mount table shows. */
  readonly text: string;
}

const MAX_PREFIX_BYTES = 900;

/** `BUCKET`, `BUCKET:/PREFIX`, either with `tsfs#` in front (the old form of fstab lines). */
export function parseSource(given: string): Source {
  const [bucket = '', ...rest] = given.replace(/^tsfs#/, '').split(':');
  // Not S3's rules to the letter: older buckets and other stores also have capitals and underscores.
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/.test(bucket)) {
    throw usage('The bucket is given as BUCKET or BUCKET:/PREFIX, with letters, digits, dots and hyphens in its name.');
  }
  const path = rest.join(':').replace(/^\/+|\/+$/g, '');
  if (path === '') return { bucket, prefix: '', text: bucket };
  const parts = path.split('/');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: NUL and newline would break the mount table.
  if (parts.some((part) => part === '' || part === '.' || part === '..') || /[\x00-\x1f]/.test(path)) {
    throw usage('The prefix after BUCKET: is a path without empty parts, dots only and control characters.');
  }
  if (Buffer.byteLength(path) > MAX_PREFIX_BYTES) throw usage(`The prefix is longer than ${MAX_PREFIX_BYTES} bytes.`);
  return { bucket, prefix: `${path}/`, text: `${bucket}:/${path}` };
}

function usage(sentence: string): MountError {
  return new MountError(sentence, EXIT.usage);
}
