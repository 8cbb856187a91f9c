/** Owns an index until it is killed. */
import { ROOT_NODE_ID } from '../../src/base/ids.ts';
import { silentLogger } from '../../src/base/log.ts';
import { openIndex } from '../../src/index/open.ts';

const index = openIndex({ path: process.argv[2] as string, log: silentLogger });
index.nodes.applyListing(ROOT_NODE_ID, [{ kind: 'directory', name: 'from-child' }], 1);
process.stdout.write('open\n');
// Used for as long as the process lives: what nobody refers to is collected, and its lock with it.
setInterval(() => index.getFact('any'), 1000);
