/** Fresh buckets for tests, on the gateway that `global-setup.ts` started. */
import { randomBytes } from 'node:crypto';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { type S3Options, S3Store } from '../../src/store/s3.ts';

export interface Server {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

const ENDPOINT = 'TSFS_TEST_ENDPOINT';
const ACCESS_KEY_ID = 'TSFS_TEST_ACCESS_KEY_ID';
const SECRET_ACCESS_KEY = 'TSFS_TEST_SECRET_ACCESS_KEY';

/** For `testServer()` in this process and in those that it starts. */
export function announceServer(server: Server): void {
  process.env[ENDPOINT] = server.endpoint;
  process.env[ACCESS_KEY_ID] = server.accessKeyId;
  process.env[SECRET_ACCESS_KEY] = server.secretAccessKey;
}

/** The gateway shared by the whole test run. */
export function testServer(): Server {
  const [endpoint, accessKeyId, secretAccessKey] = [ENDPOINT, ACCESS_KEY_ID, SECRET_ACCESS_KEY].map((name) => {
    const value = process.env[name];
    if (value === undefined) throw new Error(`${name} is not set: the tests need test/support/global-setup.ts`);
    return value;
  }) as [string, string, string];
  return { endpoint, accessKeyId, secretAccessKey };
}

/** Creates a bucket with a name that nothing else uses. Buckets end with the gateway. */
export async function freshBucket(server: Server = testServer(), prefix = 'test'): Promise<string> {
  const bucket = `${prefix}-${randomBytes(6).toString('hex')}`;
  await createBucket(server, bucket);
  return bucket;
}

export async function createBucket(server: Server, bucket: string): Promise<void> {
  const { endpoint, accessKeyId, secretAccessKey } = server;
  const credentials = { accessKeyId, secretAccessKey };
  const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials });
  try {
    await client.send(new CreateBucketCommand({ Bucket: bucket }));
  } finally {
    client.destroy();
  }
}

/** A store on a bucket of the server. Close it at the end of the test. */
export function openBucket(server: Server, bucket: string, options: Partial<S3Options> = {}): S3Store {
  const { endpoint, accessKeyId, secretAccessKey } = server;
  return new S3Store({ endpoint, bucket, pathStyle: true, credentials: { accessKeyId, secretAccessKey }, ...options });
}
