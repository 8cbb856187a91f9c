/** Run as a normal user: mounts the toy file system through fusermount3, uses it from a child process, unmounts. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { silentLogger } from '../../../src/base/log.ts';
import { mountFuse, unmountFuse } from '../../../src/kernel/mount.ts';
import { findMount } from '../../../src/kernel/mount-table.ts';
import { startSession } from '../../../src/kernel/session.ts';
import { ToyFileSystem } from './toy-fs.ts';

const [scratch = '', mountPoint = '', allowOther = ''] = process.argv.slice(2);
const toy = new ToyFileSystem(scratch, { backing: true, bytes: false, slow: false, keepCache: true, ttlMs: 1000 });
const flags = { readOnly: false, defaultPermissions: true, noExec: true, noAtime: false };
const options = { source: 'a,b\\c d', mountPoint, allowOther: allowOther !== '', ...flags };

async function main(): Promise<object> {
  const fd = await mountFuse(options);
  const session = startSession({ fd, operations: toy, log: silentLogger });
  const limits = { timeout: 10_000, killSignal: 'SIGKILL' as const };
  // The child itself goes there: with `cwd` this process would wait for a chdir(2) that it has to answer.
  const script = 'cd "$0"; echo hello > f; cat f; cat f > g; stat -c %u g; cmp f g';
  const { stdout } = await promisify(execFile)('/bin/sh', ['-ec', script, mountPoint], limits);
  const mounted = await findMount(mountPoint);
  const { passthrough } = session.status();
  const busy = execFile('/bin/sh', ['-ec', 'cd "$0"; echo there; exec sleep 20', mountPoint]);
  await new Promise((resolve) => busy.stdout?.once('data', resolve));
  const refused = await unmountFuse(mountPoint, false).catch((error: Error) => error.message);
  busy.kill('SIGKILL');
  await unmountFuse(mountPoint, true);
  const end = await session.ended;
  return { stdout, source: mounted?.source, type: mounted?.type, passthrough: passthrough.state, refused, end };
}

main().then(
  (result) => console.log(JSON.stringify(result)),
  (error: Error) => console.log(JSON.stringify({ error: error.message })),
);
