/**
 * What the SDK reaches with nothing around it, as `small-files create` does it through a mount: as many PUTs as writers at once.
 *
 *     node bench/programs/bare-create.ts ENDPOINT BUCKET COUNT BYTES WRITERS LIMIT_MS
 *
 * Credentials as the SDK finds them. Prints the number of objects that were made, and microseconds.
 */
import { Agent } from 'node:http';
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';

const [endpoint = '', Bucket = '', ...numbers] = process.argv.slice(2);
const [count = 0, bytes = 0, writers = 0, limitMs = 0] = numbers.map(Number);
if (!(count > 0 && writers > 0 && limitMs > 0)) {
  throw new Error('usage: bare-create ENDPOINT BUCKET COUNT BYTES WRITERS LIMIT_MS');
}
const client = new S3Client({
  endpoint,
  region: 'us-east-1',
  forcePathStyle: true,
  requestChecksumCalculation: 'WHEN_REQUIRED',
  responseChecksumValidation: 'WHEN_REQUIRED',
  requestHandler: new NodeHttpHandler({ httpAgent: new Agent({ keepAlive: true, maxSockets: writers }) }),
});
const Body = Buffer.alloc(bytes, 'x');
const names = Array.from({ length: count }, (_, i) => `bare-${writers}/${i}.jpg`).values();
const startMs = performance.now();
let done = 0;
const writer = async () => {
  for (const Key of names) {
    if (performance.now() - startMs >= limitMs) return;
    await client.send(new PutObjectCommand({ Bucket, Key, Body }));
    done += 1;
  }
};
await Promise.all(Array.from({ length: writers }, writer));
console.log(done, Math.round((performance.now() - startMs) * 1000));
client.destroy();
