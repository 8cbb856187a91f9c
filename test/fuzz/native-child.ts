/** Calls functions of the addon as `native.test.ts` says, in a process that may crash. */
import { openSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

export type FuzzValue =
  | 'handle'
  | 'stopped'
  | 'lookalike'
  | 'function'
  | 'undefined'
  | 'nothing'
  | 'buffer'
  | 'list'
  | { readonly number: number }
  | { readonly text: string }
  | { readonly boolean: boolean };

/** A call with proper arguments, some of which are replaced. */
export interface Invocation {
  /** Modulo the number of functions. */
  readonly name: number;
  /** How many arguments more (or, below 0, fewer) than are proper. */
  readonly extra: number;
  readonly replaced: readonly { readonly at: number; readonly value: FuzzValue }[];
}

interface Entry {
  readonly proper: readonly unknown[];
  /** Which arguments are descriptors. */
  readonly fdsAt?: readonly number[];
}

const path = process.env.TSFS_NATIVE ?? join(import.meta.dirname, '../../build/tsfs_native.node');
const addon = createRequire(import.meta.url)(path) as Record<string, (...args: unknown[]) => unknown>;
const call = (name: string, ...args: unknown[]) => addon[name]?.(...args);

const noEvents = () => {};

/** A session that reads nothing, and whose replies nobody has to take. */
function startSession(): unknown {
  const fd = openSync('/dev/null', 'r+');
  const { handle } = call('start', fd, 1, 1, 65_536, 16, 1_000_000, noEvents, 7, fd, -1) as { handle: unknown };
  return handle;
}

const handle = startSession();
const stopped = startSession();
call('stop', stopped);

/** No descriptor of this process: from here up none is open. */
const NO_FD = 100_000;
const NO_PATH = '/nonexistent/directory';

/** Threads use it after the call. */
const KEPT = Buffer.alloc(4096);
const LIST = [KEPT, null];

const ENTRIES: Readonly<Record<string, Entry>> = {
  mount: { proper: ['source', NO_PATH, 'fuse', 0, `fd=${NO_FD}`] },
  unmount: { proper: [NO_PATH, 0] },
  receiveFd: { proper: [NO_FD], fdsAt: [0] },
  cloneDevice: { proper: [NO_FD, NO_FD], fdsAt: [0] },
  backingOpen: { proper: [NO_FD, NO_FD], fdsAt: [0] },
  backingClose: { proper: [NO_FD, 1], fdsAt: [0] },
  start: { proper: [NO_FD, 1, 1, 65_536, 16, 1_000_000, noEvents, 7, NO_FD, NO_FD], fdsAt: [0, 8, 9] },
  stop: { proper: [stopped] },
  keepNoMore: { proper: [stopped] },
  reply: { proper: [handle, 16, false] },
  replyFile: { proper: [handle, 1, 2, 0, NO_FD, 0, 4096], fdsAt: [4] },
  replyMemory: { proper: [handle, 1, 2, 0, [KEPT, KEPT.subarray(1)]] },
  writeFile: { proper: [handle, 1, 1, NO_FD, 0], fdsAt: [3] },
  payload: { proper: [handle, 1] },
  releasePayload: { proper: [handle, 1] },
  publish: { proper: [handle, 5, 1000, -1], fdsAt: [3] },
  withdraw: { proper: [handle, 5] },
  limitXattrs: { proper: [handle, 'user.,trusted.'] },
  notify: { proper: [handle, 40] },
  counters: { proper: [handle] },
};
/** Takes no arguments, and makes descriptors. */
const OTHERS = new Set(['socketPair']);

/** Each function of the addon has to be here. */
const names = Object.keys(addon).filter((name) => !OTHERS.has(name));

function toArgument(value: FuzzValue): unknown {
  if (value === 'handle') return handle;
  if (value === 'stopped') return stopped;
  if (value === 'lookalike') return { handle };
  if (value === 'function') return noEvents;
  if (value === 'undefined') return undefined;
  if (value === 'nothing') return null;
  if (value === 'buffer') return Buffer.alloc(8);
  if (value === 'list') return LIST;
  if ('number' in value) return value.number;
  // Never a path that exists.
  if ('text' in value) return `${NO_PATH}/${value.text}`;
  return value.boolean;
}

function argumentsOf(name: string, { extra, replaced }: Invocation): unknown[] {
  const entry = ENTRIES[name];
  if (entry === undefined) throw new Error(`the function ${name} is not tried`);
  const args = [...entry.proper];
  for (const { at, value } of replaced) args[at % (args.length + 1)] = toArgument(value);
  args.length = Math.max(0, args.length + extra);
  for (const at of entry.fdsAt ?? []) {
    const fd = args[at];
    if (typeof fd === 'number' && fd >= 0 && fd < NO_FD) args[at] = fd + NO_FD;
  }
  if (name === 'stop' && args[0] === handle) args[0] = stopped;
  return args;
}

function invoke(invocation: Invocation): void {
  const name = names[invocation.name % names.length] as string;
  try {
    const result = call(name, ...argumentsOf(name, invocation));
    if (name === 'start') call('stop', (result as { handle: unknown }).handle);
  } catch (error) {
    // The last: the memory for requests that are kept is no memory.
    const isRefusal = error instanceof TypeError || error instanceof RangeError || /kept/.test(String(error));
    if (!isRefusal) throw error;
  }
}

process.on('message', (invocations: Invocation[]) => {
  for (const invocation of invocations) invoke(invocation);
  // Jobs of other threads have their say before the answer.
  setImmediate(() => process.send?.('alive'));
});
