import { silentLogger } from '../../src/base/log.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { stackStore } from '../../src/store/stack.ts';
import { describeConformance } from './conformance.ts';

describeConformance('memory', async () => new MemoryStore());

describeConformance(
  'the stack over memory',
  async () => stackStore(new MemoryStore(), { maxInFlight: 4, log: silentLogger, retry: { baseDelayMs: 1 } }).store,
);
