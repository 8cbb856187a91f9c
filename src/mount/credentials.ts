/** From where the keys are said to be, to a provider that the AWS SDK asks whenever it signs. */
import { stat } from 'node:fs/promises';
import {
  type CredentialProvider,
  type Credentials,
  containerCredentials,
  defaultCredentials,
  instanceCredentials,
  profileCredentials,
} from '../store/sdk-credentials.ts';
import type { CredentialsSpec } from './config.ts';
import { MountError } from './errors.ts';
import { readPasswdFile } from './passwd-file.ts';

/**
 * The SDK asks a provider again five minutes before the expiry that it named: ten seconds more, and a changed passwd_file
 * is noticed within ten seconds, at the cost of one stat(2).
 */
const RECHECK_MS = 5 * 60_000 + 10_000;

/**
 * Checks now what can be checked without the network, and rejects with a `MountError` when nothing usable is there.
 * Resolves with undefined when requests are not to be signed.
 */
export async function loadCredentials(
  spec: CredentialsSpec,
  bucket: string,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Promise<CredentialProvider | undefined> {
  switch (spec.kind) {
    case 'public':
      return undefined;
    case 'passwdFile':
      return passwdFileProvider(spec.path, bucket);
    case 'environment':
      return environmentProvider(environment, spec.tokenRequired);
    case 'profile':
      return checked(profileCredentials(spec.name), `The AWS profile ${spec.name} gives no credentials.`);
    case 'instance':
      return instanceCredentials();
    case 'container':
      return containerCredentials();
    case 'chain':
      return checked(
        defaultCredentials(),
        'No credentials were found: give passwd_file=FILE with a line KEY:SECRET, or public_bucket for none.',
      );
  }
}

async function passwdFileProvider(path: string, bucket: string): Promise<CredentialProvider> {
  let last = await readPasswdFile(path, bucket);
  return async () => {
    const { mtimeMs } = await stat(path);
    if (mtimeMs !== last.mtimeMs) last = await readPasswdFile(path, bucket);
    return { ...last.keys, expiration: new Date(Date.now() + RECHECK_MS) };
  };
}

function environmentProvider(
  environment: Readonly<Record<string, string | undefined>>,
  tokenRequired: boolean,
): CredentialProvider {
  const accessKeyId = environment.AWSACCESSKEYID;
  const secretAccessKey = environment.AWSSECRETACCESSKEY;
  const sessionToken = environment.AWSSESSIONTOKEN;
  if (!accessKeyId || !secretAccessKey) {
    throw new MountError('AWSACCESSKEYID and AWSSECRETACCESSKEY must be set together in the environment.');
  }
  if (tokenRequired && !sessionToken) {
    throw new MountError('use_session_token was given, but AWSSESSIONTOKEN is not in the environment.');
  }
  const identity: Credentials = sessionToken
    ? { accessKeyId, secretAccessKey, sessionToken }
    : { accessKeyId, secretAccessKey };
  return async () => identity;
}

/** Asks once, so that a mount without credentials fails with a sentence and not at its first request. */
async function checked(provider: CredentialProvider, sentence: string): Promise<CredentialProvider> {
  try {
    await provider();
  } catch (error) {
    throw new MountError(sentence, undefined, error);
  }
  return provider;
}
