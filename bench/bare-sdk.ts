/** What the SDK reaches with nothing around it: ranges read, and parts written, in parallel. */
import { Agent } from 'node:http';
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  GetObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import type { Server } from '../test/support/buckets.ts';
import type { Target } from './targets.ts';

const PART_BYTES = 8 * 1024 * 1024;
const CONNECTIONS = 8;

/** Takes part in suites that name it; it has no mount. */
export const BARE_SDK: Target = {
  name: 'bare SDK',
  format: 'objects',
  writable: true,
  isVariant: false,
  writeBackMs: 0,
  availability: async () => ({ version: '', options: `${CONNECTIONS} connections, ${PART_BYTES / 2 ** 20} MiB each` }),
  mount: () => Promise.reject(new Error('the bare SDK is no file system')),
};

export interface BareObject {
  readonly server: Server;
  readonly bucket: string;
  readonly key: string;
  readonly sizeBytes: number;
}

/** Reads all of it and throws it away; milliseconds. */
export function readBare({ server, bucket, key, sizeBytes }: BareObject): Promise<number> {
  return inParts(server, sizeBytes, async (client, offset, length) => {
    const Range = `bytes=${offset}-${offset + length - 1}`;
    const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key, Range }));
    let received = 0;
    for await (const chunk of Body as AsyncIterable<Uint8Array>) received += chunk.length;
    if (received !== length) throw new Error(`${received} of ${length} bytes`);
  });
}

/** Writes bytes that were in memory before; milliseconds. */
export async function writeBare({ server, bucket, key, sizeBytes }: BareObject): Promise<number> {
  const bytes = Buffer.alloc(PART_BYTES, 'not compressed on its way');
  const parts: { PartNumber: number; ETag: string | undefined }[] = [];
  const name = { Bucket: bucket, Key: key };
  let UploadId: string | undefined;
  return inParts(
    server,
    sizeBytes,
    async (client, offset, length) => {
      const PartNumber = offset / PART_BYTES + 1;
      const Body = bytes.subarray(0, length);
      const { ETag } = await client.send(new UploadPartCommand({ ...name, UploadId, PartNumber, Body }));
      parts.push({ PartNumber, ETag });
    },
    {
      before: async (client) => {
        ({ UploadId } = await client.send(new CreateMultipartUploadCommand(name)));
      },
      after: async (client) => {
        const Parts = parts.sort((a, b) => a.PartNumber - b.PartNumber);
        await client.send(new CompleteMultipartUploadCommand({ ...name, UploadId, MultipartUpload: { Parts } }));
      },
    },
  );
}

interface Around {
  before(client: S3Client): Promise<void>;
  after(client: S3Client): Promise<void>;
}

/** With so many connections. `credentials`: where they are not given, as the SDK finds them. */
export function bareClient(
  endpoint: string,
  connections: number,
  credentials?: Pick<Server, 'accessKeyId' | 'secretAccessKey'>,
): S3Client {
  return new S3Client({
    endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    ...(credentials === undefined ? {} : { credentials }),
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: new NodeHttpHandler({ httpAgent: new Agent({ keepAlive: true, maxSockets: connections }) }),
  });
}

async function inParts(
  { endpoint, accessKeyId, secretAccessKey }: Server,
  sizeBytes: number,
  act: (client: S3Client, offset: number, length: number) => Promise<void>,
  around?: Around,
): Promise<number> {
  const client = bareClient(endpoint, CONNECTIONS, { accessKeyId, secretAccessKey });
  try {
    const startMs = performance.now();
    await around?.before(client);
    const offsets = Array.from({ length: Math.ceil(sizeBytes / PART_BYTES) }, (_, i) => i * PART_BYTES).values();
    const worker = async () => {
      for (const offset of offsets) await act(client, offset, Math.min(PART_BYTES, sizeBytes - offset));
    };
    await Promise.all(Array.from({ length: CONNECTIONS }, worker));
    await around?.after(client);
    return performance.now() - startMs;
  } finally {
    client.destroy();
  }
}
