/** Changes a staging file until it is killed; one line on stdout for each operation that was acknowledged. */
import { writeSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeId } from '../../src/base/ids.ts';
import { silentLogger } from '../../src/base/log.ts';
import { openIndex } from '../../src/index/open.ts';
import { openJournal } from '../../src/journal/journal.ts';
import { BASE_BYTES, makeOperation } from './crash-model.ts';

const [root = '', seed = '0'] = process.argv.slice(2);
const index = openIndex({ path: join(root, 'index.db'), log: silentLogger });
const journal = openJournal({ directory: join(root, 'staging'), index, log: silentLogger, bootId: 'boot-1' });
await journal.recover();
const staging = await journal.stage(17 as NodeId, BASE_BYTES);
for (let i = 0; i < 5000; i += 1) {
  const operation = makeOperation(Number(seed), i);
  if (operation.kind === 'truncate') await staging.truncate(operation.sizeBytes);
  else await staging.write(operation.offset, Buffer.alloc(operation.lengthBytes, operation.byte));
  acknowledge(i);
}

/** The parent may be slow to read. */
function acknowledge(i: number): void {
  for (;;) {
    try {
      writeSync(1, `${i}\n`);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}
