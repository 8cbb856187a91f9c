/**
 * Loaded into every process of a mount by `NODE_OPTIONS=--import`: looking up the name `crash` ends the worker, `spin` blocks its event loop for
 * good. What the file system itself can do wrong, for the tests of its guardian.
 */
import { isMainThread } from 'node:worker_threads';

if (isMainThread && process.argv[1]?.endsWith('/src/mount/worker.ts')) {
  const { FileSystem } = await import('../../src/fs/file-system.ts');
  const { lookup } = FileSystem.prototype;
  FileSystem.prototype.lookup = function (caller, parent, name) {
    if (name === 'crash') process.exit(70);
    while (name === 'spin');
    return lookup.call(this, caller, parent, name);
  };
}
