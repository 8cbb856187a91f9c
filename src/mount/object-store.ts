/** The bucket of a mount, from its configuration. */
import { readFile } from 'node:fs/promises';
import type { Logger } from '../base/log.ts';
import { type S3Options, S3Store } from '../store/s3.ts';
import type { S3WriteOptions, Encryption as StoreEncryption } from '../store/s3-fields.ts';
import { type StackedStore, stackStore } from '../store/stack.ts';
import type { Encryption, MountConfig } from './config.ts';
import { loadCredentials } from './credentials.ts';
import { MountError } from './errors.ts';
import { storeFailure, storeSentence } from './messages.ts';

const CUSTOMER_KEY_BYTES = 32;

/** Rejects with a MountError when what the configuration names (keys, files) is not usable. Sends nothing. */
export async function openStore(config: MountConfig, log: Logger): Promise<StackedStore> {
  const { store, objects, bucket } = config;
  const credentials = await loadCredentials(store.credentials, bucket);
  const options: S3Options = {
    bucket,
    pathStyle: store.pathStyle,
    credentials: credentials ?? 'anonymous',
    maxConnections: store.maxRequests,
    connectTimeoutMs: store.connectTimeoutMs,
    idleTimeoutMs: store.idleTimeoutMs,
    verifyTls: store.verifyCertificate,
    verifyHostname: store.verifyHostname,
    requesterPays: store.requesterPays,
    writes: await writeOptions(objects),
    ...(store.endpointUrl === undefined ? {} : { endpoint: store.endpointUrl }),
    ...(store.region === undefined ? {} : { region: store.region }),
    ...(store.proxyUrl === undefined ? {} : { proxy: store.proxyUrl }),
  };
  return stackStore(new S3Store(options), {
    maxInFlight: store.maxRequests,
    log,
    retry: { maxAttempts: store.retries + 1 },
    advise: (error) => storeSentence(error, config),
  });
}

/** The same, and the bucket answers. Rejects with a MountError that says why it does not. */
export async function openCheckedStore(config: MountConfig, log: Logger): Promise<StackedStore> {
  try {
    const store = await openStore(config, log);
    await store.store.check({ prefix: config.prefix });
    return store;
  } catch (error) {
    throw storeFailure(error, config);
  }
}

async function writeOptions(objects: MountConfig['objects']): Promise<S3WriteOptions> {
  const { acl, storageClass, encryption } = objects;
  return {
    ...(acl === undefined ? {} : { acl }),
    ...(storageClass === undefined ? {} : { storageClass }),
    ...(encryption === undefined ? {} : { encryption: await storeEncryption(encryption) }),
  };
}

async function storeEncryption(encryption: Encryption): Promise<StoreEncryption> {
  switch (encryption.kind) {
    case 'store':
      return { type: 'aes256' };
    case 'kms':
      return { type: 'kms', ...(encryption.keyId === undefined ? {} : { keyId: encryption.keyId }) };
    case 'customer':
      return { type: 'customer', key: await readCustomerKey(encryption.keyFile) };
  }
}

/** The first line of the file: 32 bytes, raw or in base64. The content never gets into a message. */
async function readCustomerKey(path: string): Promise<Uint8Array> {
  const text = await readFile(path, 'latin1').catch(() => {
    throw new MountError(`The key file ${path} of use_sse cannot be read.`);
  });
  const line = text.split(/\r?\n/, 1)[0] ?? '';
  const key = line.length === CUSTOMER_KEY_BYTES ? Buffer.from(line, 'latin1') : Buffer.from(line, 'base64');
  if (key.length !== CUSTOMER_KEY_BYTES) throw new MountError(`The first line of ${path} is not a key of 32 bytes.`);
  return key;
}
