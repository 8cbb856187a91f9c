/** Input fields that do not depend on the object: the bucket, who pays, encryption, storage class, access. */
import { createHash } from 'node:crypto';
import type { ObjectCannedACL, RequestPayer, ServerSideEncryption, StorageClass } from '@aws-sdk/client-s3';

export type Encryption =
  | { readonly type: 'aes256' }
  | { readonly type: 'kms'; readonly keyId?: string }
  /** 32 bytes; the store encrypts with them and forgets them. */
  | { readonly type: 'customer'; readonly key: Uint8Array };

/** Headers on everything that is written. Absent: the store's defaults. */
export interface S3WriteOptions {
  /** Canned ACL, e.g. `public-read`. */
  readonly acl?: string;
  /** E.g. `STANDARD_IA`. */
  readonly storageClass?: string;
  readonly encryption?: Encryption;
}

export interface SharedFields {
  /** Every request. */
  readonly any: { readonly Bucket: string; readonly RequestPayer?: RequestPayer };
  /** HEAD and GET. */
  readonly read: SharedFields['any'] & CustomerKey;
  /** PUT, COPY and the begin of a multipart upload. */
  readonly write: SharedFields['read'] & {
    readonly ACL?: ObjectCannedACL;
    readonly StorageClass?: StorageClass;
    readonly ServerSideEncryption?: ServerSideEncryption;
    readonly SSEKMSKeyId?: string;
  };
  /** What copies add, to read their source. */
  readonly source: {
    readonly CopySourceSSECustomerAlgorithm?: string;
    readonly CopySourceSSECustomerKey?: string;
    readonly CopySourceSSECustomerKeyMD5?: string;
  };
}

interface CustomerKey {
  readonly SSECustomerAlgorithm?: string;
  readonly SSECustomerKey?: string;
  readonly SSECustomerKeyMD5?: string;
}

export function sharedFields(bucket: string, writes: S3WriteOptions, requesterPays: boolean): SharedFields {
  const { acl, storageClass, encryption } = writes;
  const any = { Bucket: bucket, ...(requesterPays ? { RequestPayer: 'requester' as const } : {}) };
  const customer = encryption?.type === 'customer' ? customerKey(encryption.key) : {};
  const read = { ...any, ...customer };
  const write = {
    ...read,
    // Plain strings: each store has its own set, and refuses what it does not know.
    ...(acl === undefined ? {} : { ACL: acl as ObjectCannedACL }),
    ...(storageClass === undefined ? {} : { StorageClass: storageClass as StorageClass }),
    ...(encryption?.type === 'aes256' ? { ServerSideEncryption: 'AES256' as const } : {}),
    ...(encryption?.type === 'kms' ? { ServerSideEncryption: 'aws:kms' as const } : {}),
    ...(encryption?.type === 'kms' && encryption.keyId !== undefined ? { SSEKMSKeyId: encryption.keyId } : {}),
  };
  const source = Object.fromEntries(Object.entries(customer).map(([name, value]) => [`CopySource${name}`, value]));
  return { any, read, write, source };
}

function customerKey(key: Uint8Array): CustomerKey {
  return {
    SSECustomerAlgorithm: 'AES256',
    SSECustomerKey: Buffer.from(key).toString('base64'),
    SSECustomerKeyMD5: createHash('md5').update(key).digest('base64'),
  };
}
