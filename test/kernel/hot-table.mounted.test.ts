import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { type Setup, ToyMount } from './support/mounted.ts';

let toy: ToyMount;

afterEach(async () => {
  await toy.close();
});

async function mounted(setup: Setup = {}): Promise<ToyMount> {
  toy = await ToyMount.start(setup);
  await toy.output('echo content > ../plain; cp ../plain f');
  return toy;
}

const publish = (ttlMs: number, withFile = false) =>
  toy.ask({ ask: 'publish', path: '/f', ttlMs, ...(withFile ? { file: join(toy.path, '../plain') } : {}) });
const withdraw = () => toy.ask({ ask: 'withdraw', path: '/f' });
const opens = async () => (await toy.status()).calls.open ?? 0;

test('a published file is opened, read and closed without JavaScript', async () => {
  await mounted();
  expect(await publish(60_000, true)).toBe(true);
  // What was written leaves the page cache, so that READ comes.
  await toy.ask({ ask: 'invalidateNode', path: '/f', offset: 0 });
  expect(await toy.output('for i in 1 2 3; do cat f; stat -c %s f; done')).toBe('content\n8\ncontent\n8\ncontent\n8');
  const { counters, calls } = await toy.status();
  expect(counters).toMatchObject({ hotNodes: 1, hotFiles: 1, hotOpens: 3 });
  expect(counters.hotAttributes).toBeGreaterThan(0);
  expect(counters.hotReads).toBeGreaterThan(0);
  expect(calls).not.toHaveProperty('read');
  expect(calls).not.toHaveProperty('open');
});

test('without a file, reads come to JavaScript', async () => {
  await mounted();
  await publish(60_000);
  await toy.ask({ ask: 'invalidateNode', path: '/f', offset: 0 });
  expect(await toy.output('cat f')).toBe('content');
  const { counters, calls } = await toy.status();
  expect(counters).toMatchObject({ hotOpens: 1, hotReads: 0, hotFiles: 0 });
  expect(calls.read).toBeGreaterThan(0);
});

test('opens for writing, or that truncate, come to JavaScript', async () => {
  await mounted();
  await publish(60_000);
  await toy.output('echo more >> f; : <> f');
  await toy.output('python3 -c "import os; os.open(\'f\', os.O_RDONLY | os.O_TRUNC)"');
  expect(await opens()).toBe(3);
  expect((await toy.status()).counters.hotOpens).toBe(0);
});

test('what is not believed any more is not answered', async () => {
  await mounted();
  await publish(1);
  expect(await toy.output('sleep 0.05; cat f')).toBe('content');
  expect(await opens()).toBe(1);
});

test('opens that are withdrawn come to JavaScript with their release, and count for passthrough', async () => {
  await mounted({ toy: { backing: true } });
  await publish(60_000);
  const reader = toy.background('sh', ['-c', 'exec 3< f; echo open; read line; cat <&3']);
  await new Promise((resolve) => reader.stdout?.once('data', resolve));
  expect(await withdraw()).toBe(1);
  expect(await withdraw()).toBe(0);
  // A cached open excludes passthrough (fs/fuse/iomode.c): were it not counted, this would fail with EIO.
  await toy.output('echo written > f');
  expect((await toy.status()).passthrough.nodes).toBe(0);
  const rest = new Promise((resolve) => reader.stdout?.once('data', (data: Buffer) => resolve(data.toString())));
  const exit = new Promise((resolve) => reader.once('exit', resolve));
  reader.stdin?.end('\n');
  expect(await rest).toBe('written\n');
  await exit;
  // Those of cp, of the writer and of the reader. RELEASE is sent after close(2) has returned.
  await expect.poll(async () => (await toy.status()).calls.release).toBe(3);
  await toy.output('exec 3>> f; echo passed >&3');
  expect((await toy.status()).counters.hotReleases).toBe(0);
});

test('publishing again keeps the count of opens', async () => {
  await mounted();
  await publish(60_000);
  const reader = toy.background('sh', ['-c', 'exec 3< f; echo open; read line']);
  await new Promise((resolve) => reader.stdout?.once('data', resolve));
  await publish(60_000, true);
  expect(await withdraw()).toBe(1);
  expect((await toy.status()).counters).toMatchObject({ hotNodes: 0, hotFiles: 0 });
  reader.stdin?.end();
});

test('extended attributes that no node has are asked of nobody', async () => {
  await mounted();
  const look = (name: string) =>
    toy.output(`python3 -c "import os
try: print(os.getxattr('f', '${name}'))
except OSError as error: print(error.errno)"`);
  await toy.output(`python3 -c "import os; os.setxattr('f', 'user.a', b'value')"`);
  const asked = async () => (await toy.status()).calls.getXattr ?? 0;
  expect(await look('trusted.a')).toBe('61');
  const before = await asked();
  expect(before).toBeGreaterThan(0);
  await toy.ask({ ask: 'limitXattrs', prefixes: ['user.', 'other.'] });
  expect(await look('trusted.a')).toBe('61');
  expect(await look('security.capability')).toBe('61');
  expect(await asked()).toBe(before);
  expect((await toy.status()).counters.hotXattrs).toBeGreaterThanOrEqual(2);
  expect(await look('user.a')).toBe("b'value'");
  expect(await look('user.b')).toBe('61');
  expect(await asked()).toBeGreaterThanOrEqual(before + 2);
});

test('a mount without opens asks once, and never again', async () => {
  await mounted({ withoutOpens: true });
  expect(await toy.output('for i in 1 2 3; do cat f; done')).toBe('content\ncontent\ncontent');
  const { calls } = await toy.status();
  expect(calls).not.toHaveProperty('open');
  expect(calls).not.toHaveProperty('flush');
});
