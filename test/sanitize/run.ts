/** `npm run test:sanitize`: the kernel driver and some of the mounted tests under both sanitizers. */
import { announceServer } from '../support/buckets.ts';
import { startRgw } from '../support/rgw.ts';
import { type Place, runUnder, type Sanitizer } from './sanitizer.ts';

const SANITIZERS: readonly Sanitizer[] = ['address', 'thread'];
const PARTS: readonly { readonly place: Place; readonly project: string; readonly files: readonly string[] }[] = [
  {
    place: 'tests',
    project: 'unit',
    files: ['test/kernel', 'test/fuzz/native.test.ts', 'test/transfer/md5-lanes.test.ts'],
  },
  { place: 'daemons', project: 'mounted', files: ['test/kernel/driver.mounted', 'test/kernel/hot-table.mounted'] },
  { place: 'daemons', project: 'mounted', files: ['test/mounted/hot.test.ts', 'test/mounted/semantics.test.ts'] },
  { place: 'daemons', project: 'mounted', files: ['test/mounted/guardian.test.ts'] },
];
const PART_LIMIT_MS = 900_000;

// Not under the sanitizer itself: it is no part of this.
const gateway = await startRgw();
announceServer(gateway);
let failures = 0;
try {
  for (const sanitizer of SANITIZERS) {
    for (const { place, project, files } of PARTS) {
      const vitest = ['--project', project, ...files];
      const { status, output, reports } = await runUnder(sanitizer, place, vitest, PART_LIMIT_MS);
      const isGood = status === 0 && reports === '';
      console.log(`${sanitizer} ${files.join(' ')}: ${isGood ? 'good' : 'FAILED'}`);
      if (isGood) continue;
      failures += 1;
      console.log(`${output.slice(-20_000)}\n${reports.slice(0, 20_000)}`);
    }
  }
} finally {
  await gateway.stop();
}
process.exitCode = failures === 0 ? 0 : 1;
