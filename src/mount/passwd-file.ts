/** s3fs's key file: lines `KEY:SECRET` or `BUCKET:KEY:SECRET`. No error ever quotes it. */
import { open } from 'node:fs/promises';
import { MountError, systemCode } from './errors.ts';

export interface KeyPair {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** The one file that s3fs lets a group read. */
export const SYSTEM_PASSWD_FILE = '/etc/passwd-s3fs';
const MAX_BYTES = 64 * 1024;

/** The keys for a bucket: the line that names it, else the line that names none. */
export function parsePasswdFile(text: string, bucket: string, fileName: string): KeyPair {
  let general: KeyPair | undefined;
  let own: KeyPair | undefined;
  for (const [index, raw] of text.split(/\r?\n/).entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const where = `Line ${index + 1} of the passwd_file ${fileName}`;
    const fields = line.split(':');
    const [secretAccessKey = '', accessKeyId = '', lineBucket] = fields.toReversed();
    if (fields.length < 2 || fields.length > 3 || fields.includes('') || /\s/.test(line)) {
      throw new MountError(`${where} is not of the form KEY:SECRET or BUCKET:KEY:SECRET.`);
    }
    if (lineBucket !== undefined && lineBucket !== bucket) continue;
    if ((lineBucket === undefined ? general : own) !== undefined) {
      throw new MountError(`${where} is the second one for the same bucket.`);
    }
    if (lineBucket === undefined) general = { accessKeyId, secretAccessKey };
    else own = { accessKeyId, secretAccessKey };
  }
  const pair = own ?? general;
  if (pair === undefined) throw new MountError(`The passwd_file ${fileName} has no line for the bucket ${bucket}.`);
  return pair;
}

/** What is wrong with the permissions, by s3fs's rules, or undefined. */
export function modeFault(mode: number, path: string): string | undefined {
  if ((mode & 0o007) !== 0) return 'is open to other users';
  if (path !== SYSTEM_PASSWD_FILE && (mode & 0o070) !== 0) return 'is open to its group';
  if ((mode & 0o020) !== 0) return 'can be written by its group';
  if ((mode & 0o110) !== 0) return 'is executable';
  return undefined;
}

export interface ReadPasswdFile {
  readonly keys: KeyPair;
  readonly mtimeMs: number;
}

export async function readPasswdFile(path: string, bucket: string): Promise<ReadPasswdFile> {
  const { text, mtimeMs } = await readPrivateText(path, 'passwd_file');
  return { keys: parsePasswdFile(text, bucket, path), mtimeMs };
}

/** Reads a small file that holds secrets and checks that nobody else may. `what` names it in errors. */
export async function readPrivateText(path: string, what: string): Promise<{ text: string; mtimeMs: number }> {
  try {
    // One descriptor, so that what was checked is what is read.
    const file = await open(path, 'r');
    try {
      const stat = await file.stat();
      if (!stat.isFile()) throw new MountError(`The ${what} ${path} is not a file.`);
      const fault = modeFault(stat.mode, path);
      if (fault !== undefined) throw new MountError(`The ${what} ${path} ${fault}; run: chmod 600 ${path}`);
      if (stat.size > MAX_BYTES) throw new MountError(`The ${what} ${path} is larger than ${MAX_BYTES} bytes.`);
      return { text: await file.readFile('utf8'), mtimeMs: stat.mtimeMs };
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof MountError) throw error;
    if (systemCode(error) === 'ENOENT') throw new MountError(`The ${what} ${path} does not exist.`);
    throw new MountError(`The ${what} ${path} cannot be read (${systemCode(error) ?? 'unknown reason'}).`);
  }
}
