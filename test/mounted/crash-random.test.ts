/**
 * All processes of a mount are killed at random instants while its files are written, renamed, moved in directories and deleted; after the next
 * start the bucket must come to have what was acknowledged, and nothing else. TSFS_TEST_CRASHES: how often. TSFS_TEST_SEED: which instants.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { digest, type LoadLine, type State } from './crash-load.ts';
import { settledPending } from './crash-settling.ts';
import { eventually, startServer, type TestServer } from './harness.ts';
import { RandomSource } from './random-source.ts';

const CRASHES = Number(process.env.TSFS_TEST_CRASHES ?? 5);
const SEED = Number(process.env.TSFS_TEST_SEED ?? Date.now() % 1_000_000);
const LOADS = ['first', 'second'];
const REPORT_EVERY = 10;
const SETTLE_LIMIT_MS = 60_000;
const LOAD = join(import.meta.dirname, 'crash-load.ts');

/** One directory and who changes it. */
class Changes {
  readonly #server: TestServer;
  readonly #name: string;
  #process: ChildProcess | undefined;
  #output = '';
  /** What the bucket has, the last time that it was looked at. */
  #state: State = {};

  constructor(server: TestServer, name: string) {
    this.#server = server;
    this.#name = name;
  }

  async start(seed: number): Promise<void> {
    const child = spawn(process.execPath, [LOAD, this.#server.path(this.#name), String(seed)], {
      stdio: ['pipe', 'pipe', 'inherit'],
      timeout: SETTLE_LIMIT_MS,
      killSignal: 'SIGKILL',
    });
    this.#output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text;
    });
    child.stdin.end(JSON.stringify(this.#state));
    this.#process = child;
    await eventually(async () => expect(this.#output, 'started or failed').not.toBe(''), SETTLE_LIMIT_MS);
  }

  /** After a crash. */
  async ended(): Promise<void> {
    const child = this.#process as ChildProcess;
    if (child.exitCode === null && child.signalCode === null) {
      await new Promise((resolve) => child.once('close', resolve));
    }
    expect(child.signalCode, `the load of ${this.#name} hung`).toBeNull();
  }

  /** The bucket has what was acknowledged, and of the operation that was not, all or nothing. */
  async check(): Promise<void> {
    const { allowed, what } = this.#allowed();
    this.#state = await this.#inBucket();
    const states = allowed.map((state) => JSON.stringify(sorted(state)));
    const found = JSON.stringify(sorted(this.#state));
    if (!states.includes(found)) throw new Error(`found ${found}, expected\n${states.join('\nor ')}\nafter: ${what}`);
  }

  #allowed(): { allowed: State[]; what: string } {
    let acknowledged = this.#state;
    let allowed = [acknowledged];
    let underWay: State = acknowledged;
    const operations: string[] = [];
    for (const text of this.#output.split('\n').filter((line) => line !== '')) {
      const line = JSON.parse(text) as LoadLine;
      if (line === 'started') {
      } else if (line === 'done') {
        acknowledged = underWay;
        allowed = [acknowledged];
      } else if ('failure' in line) {
        throw new Error(`${line.failure}, after: ${operations.slice(-8).join(', ')}`);
      } else {
        operations.push(line.begin);
        underWay = line.after;
        allowed = [acknowledged, line.after, ...line.between];
      }
    }
    return { allowed, what: operations.slice(-8).join(', ') };
  }

  async #inBucket(): Promise<State> {
    const { bucket } = this.#server;
    const found: Record<string, string> = {};
    for (const key of await bucket.keys(`${this.#name}/`)) {
      const name = key.slice(this.#name.length + 1);
      if (name !== '') found[name] = name.endsWith('/') ? '' : digest(await bucket.bytes(key));
    }
    return found;
  }
}

function sorted(state: State): [string, string][] {
  return Object.entries(state).sort(([a], [b]) => (a < b ? -1 : 1));
}

test(`${CRASHES} crashes of all processes`, { timeout: 60_000 + CRASHES * 60_000 }, async () => {
  console.log(`TSFS_TEST_SEED=${SEED}`);
  const random = new RandomSource(SEED);
  const server = await startServer();
  for (const name of LOADS) await server.bucket.put(`${name}/`, '', { contentType: 'application/x-directory' });
  const loads = LOADS.map((name) => new Changes(server, name));
  for (let crash = 0; crash < CRASHES; crash += 1) {
    server.proxy.setLatencyMs(random.below(15));
    await Promise.all(loads.map((load) => load.start(random.below(1_000_000))));
    await sleep(random.below(1500));
    await server.kill();
    for (const load of loads) await load.ended();
    await server.mount();
    if (random.below(4) === 0) {
      // While it is still busy with what the last crash left.
      await sleep(random.below(300));
      await server.kill();
      await server.mount();
    }
    server.proxy.setLatencyMs(0);
    await settledPending(server, SETTLE_LIMIT_MS);
    for (const load of loads) {
      await load.check().catch((error: unknown) => {
        throw new Error(`crash ${crash + 1} with seed ${SEED}: ${String(error)}`, { cause: error });
      });
    }
    if ((crash + 1) % REPORT_EVERY === 0) console.log(`${crash + 1} crashes`);
  }
  await server.umount();
});
