/**
 * Loaded into every process of a mount by `NODE_OPTIONS=--import`: looking up the name `crash` ends the worker, `spin` blocks its event loop for
 * good, and with the option `dbglevel=crit` it ends before it serves. What the file system itself can do wrong, for the tests of its guardian.
 */
import { readFile } from 'node:fs/promises';
import { isMainThread } from 'node:worker_threads';

if (isMainThread && process.argv[1]?.endsWith('/src/mount/worker.ts')) {
  const { FileSystem } = await import('../../src/fs/file-system.ts');
  const { lookup, recover } = FileSystem.prototype;
  FileSystem.prototype.recover = async function (opens) {
    const job = await readFile(process.argv[2] as string, 'utf8');
    if (job.includes('"level":"fatal"')) process.exit(70);
    return recover.call(this, opens);
  };
  FileSystem.prototype.lookup = function (caller, parent, name) {
    if (name === 'crash') process.exit(70);
    while (name === 'spin');
    return lookup.call(this, caller, parent, name);
  };
}
