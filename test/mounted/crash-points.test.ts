/**
 * Every step of everything that takes more than one request: the worker is killed there, or all processes are, and then what was
 * acknowledged is in the bucket, and what was not is either done or not. TSFS_TEST_POINTS: those alone that this expression matches.
 */
import { createHash } from 'node:crypto';
import { access, lstat, readdir, readFile, readlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FAULT_POINTS, type FaultPoint } from '../../src/base/fault-points.ts';
import { SharedLock } from '../../src/base/locks.ts';
import { type Objects, type Place, placeOf, SCENARIOS, type Scenario } from './crash-scenarios.ts';
import { settledPending } from './crash-settling.ts';
import { eventually, startServer, type TestServer } from './harness.ts';

const LIMIT_MS = 60_000;

interface Case {
  readonly point: FaultPoint;
  readonly scenario: Scenario;
}

type Victims = 'worker' | 'all';

const CASES: readonly Case[] = SCENARIOS.flatMap((scenario) => scenario.points.map((point) => ({ point, scenario })));
const WANTED = new RegExp(process.env.TSFS_TEST_POINTS ?? '');

/**
 * execve(2) closes what a new process inherited, which uploads what is dirty, and until then spawn() holds up this process, the proxy that the
 * upload goes through included: nothing is started while a file is open.
 */
const spawning = new SharedLock();

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

async function prepare({ server, name }: Place, { before }: Scenario): Promise<void> {
  await server.bucket.put(`${name}/`, '', { contentType: 'application/x-directory' });
  for (const [key, content] of Object.entries(before)) {
    const contentType = key.endsWith('/') ? 'application/x-directory' : 'text/plain';
    await server.bucket.put(`${name}/${key}`, content, { contentType });
  }
}

/** Goes on to the first step that fails. */
async function act(place: Place, scenario: Scenario): Promise<{ allowed: readonly Objects[]; error: unknown }> {
  let state = scenario.before;
  for (const { run, after, between = [] } of scenario.steps(place)) {
    try {
      await run();
    } catch (error) {
      return { allowed: [state, ...between, after], error };
    }
    state = after;
  }
  return { allowed: [state], error: undefined };
}

async function inBucket({ server, name }: Place): Promise<Objects> {
  const keys = await server.bucket.keys(`${name}/`);
  const contents = await Promise.all(keys.map((key) => server.bucket.text(key)));
  const objects = keys.map((key, i) => [key.slice(name.length + 1), contents[i] ?? ''] as const);
  return Object.fromEntries(objects.filter(([key]) => key !== ''));
}

/** What the mount shows, in the same form; but it does not tell which directories have markers. */
async function inMount(place: Place, below = ''): Promise<Objects> {
  const found: Record<string, string> = {};
  for (const entry of await readdir(place.path(below), { withFileTypes: true })) {
    const key = below + entry.name;
    if (entry.isDirectory()) Object.assign(found, { [`${key}/`]: '' }, await inMount(place, `${key}/`));
    else if ((await lstat(place.path(key))).isSymbolicLink()) found[key] = await readlink(place.path(key));
    else found[key] = await readFile(place.path(key), 'utf8');
  }
  return found;
}

/** Long contents by their hash, so that a difference can be read. */
function digest(objects: Objects): Objects {
  const entries = Object.entries(objects).map(([key, content]) => [
    key,
    content.length < 100 ? content : `${content.length} ${createHash('sha256').update(content).digest('hex')}`,
  ]);
  return Object.fromEntries(entries.sort());
}

function withDirectories(objects: Objects): Objects {
  const all: Record<string, string> = { ...objects };
  for (const key of Object.keys(objects)) {
    for (let at = key.indexOf('/'); at >= 0; at = key.indexOf('/', at + 1)) all[key.slice(0, at + 1)] = '';
  }
  return all;
}

async function check(place: Place, allowed: readonly Objects[]): Promise<void> {
  const found = await inBucket(place);
  expect(allowed.map(digest)).toContainEqual(digest(found));
  const state = allowed.find((objects) => JSON.stringify(digest(objects)) === JSON.stringify(digest(found))) ?? found;
  // A listing does not tell links from files: what it does not tell follows.
  await eventually(async () => expect(digest(await inMount(place))).toEqual(digest(withDirectories(state))), LIMIT_MS);
}

async function crashAt({ point, scenario }: Case, victims: Victims, server: TestServer, plan: string): Promise<void> {
  const place = placeOf(server, point);
  await prepare(place, scenario);
  // Known to the mount, as whatever is worked on.
  await inMount(place);
  await writeFile(plan, `${point} ${victims}`);
  const { allowed, error } = await spawning.shared(() => act(place, scenario));
  // Some of it goes on after the answer.
  await eventually(async () => expect(await isThere(plan), `${point} is never reached`).toBe(false), LIMIT_MS);
  if (victims === 'worker') {
    expect(error).toBeUndefined();
  } else {
    await server.exit();
    await spawning.exclusive(async () => {
      await server.kill();
      await server.mount();
    });
  }
  await settledPending(server, LIMIT_MS);
  await check(place, allowed);
  server.proxy.clearFaults();
}

/**
 * At most three side by side: each may block one of the four threads that the file calls of this process have, and the proxy resolves names with
 * one.
 */
async function crashAtAll(cases: readonly Case[], victims: Victims): Promise<void> {
  const plan = join(tmpdir(), `tsfs-fault-${crypto.randomUUID()}`);
  const server = await spawning.exclusive(() =>
    startServer({
      options: ['multipart_size=5', 'multipart_threshold=6'],
      environment: { TSFS_FAULTS: plan },
    }),
  );
  for (const one of cases.filter(({ point }) => WANTED.test(point))) {
    try {
      await crashAt(one, victims, server, plan);
    } catch (error) {
      throw new Error(`${victims} killed at ${one.point}`, { cause: error });
    }
  }
  await spawning.exclusive(() => server.umount());
}

test('each point is in one scenario', () => {
  expect(CASES.map(({ point }) => point).sort()).toEqual([...FAULT_POINTS].sort());
});

test('killed at each step', { timeout: 600_000 }, async () => {
  const results = await Promise.allSettled([
    crashAtAll(CASES, 'worker'),
    ...[0, 1].map((lane) =>
      crashAtAll(
        CASES.filter((_, i) => i % 2 === lane),
        'all',
      ),
    ),
  ]);
  expect(results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []))).toEqual([]);
});
