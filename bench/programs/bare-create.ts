/**
 * What the SDK reaches with nothing around it, as `small-files create` does it through a mount: as many PUTs as writers at once.
 *
 *     node bench/programs/bare-create.ts ENDPOINT BUCKET COUNT BYTES WRITERS LIMIT_MS
 *
 * Credentials as the SDK finds them. Prints the number of objects that were made, and microseconds.
 */
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { bareClient } from '../bare-sdk.ts';

const [endpoint = '', Bucket = '', ...numbers] = process.argv.slice(2);
const [count = 0, bytes = 0, writers = 0, limitMs = 0] = numbers.map(Number);
if (!(count > 0 && writers > 0 && limitMs > 0)) {
  throw new Error('usage: bare-create ENDPOINT BUCKET COUNT BYTES WRITERS LIMIT_MS');
}
const client = bareClient(endpoint, writers);
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
