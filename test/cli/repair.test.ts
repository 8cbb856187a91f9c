import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLogger } from '../../src/base/log.ts';
import { runCli } from '../../src/cli/cli.ts';
import { parseOptions, splitOptions } from '../../src/cli/parse-options.ts';
import { pendingText } from '../../src/cli/pending-text.ts';
import { resolveConfig } from '../../src/cli/resolve.ts';
import { parseSource } from '../../src/cli/source.ts';
import { findTarget, type TargetArguments } from '../../src/cli/target.ts';
import type { MountConfig } from '../../src/mount/config.ts';
import { writeJob } from '../../src/mount/job.ts';
import { survivingDamage } from '../../src/mount/layers.ts';

const HOST = { uid: 1000, gid: 1000, environment: { HOME: '/nonexistent' } };

describe('what is pending in words', () => {
  const NOW_MS = 100_000;
  const text = (...changes: Parameters<typeof pendingText>[0]['changes']) =>
    pendingText({ changes, count: changes.length }, NOW_MS).split('\n');

  it('nothing', () => {
    expect(text()).toEqual(['The bucket has everything.']);
  });

  it('one line for each change, without control characters', () => {
    const upload = { kind: 'upload', path: 'a/b\u001b[2J.jpg', sizeBytes: 2048, sinceMs: 40_000, error: 'Timeout' };
    const rename = { kind: 'renameTree', path: 'old/', toPath: 'new/', sinceMs: 99_000 };
    expect(text(upload, rename)).toEqual([
      'upload   /a/b?[2J.jpg (2.0 KiB; since 1 min 0 s; last: Timeout)',
      'rename   /old/ to /new/ (since 1 s)',
      '2 changes are pending.',
    ]);
  });

  it('what is kept tells what it was', () => {
    const kept = { kind: 'kept', path: '17-ab-x', wasPath: 'dir/x', sizeBytes: 1, sinceMs: NOW_MS };
    expect(text(kept)).toEqual([
      'kept     lost+found/17-ab-x (was /dir/x; 1 B; since 0 s)',
      '1 change is pending.',
      'What is kept in lost+found is not sent by itself: see tsfs recover --export.',
    ]);
  });

  it('says how many are not shown', () => {
    expect(pendingText({ changes: [], count: 12 }, NOW_MS)).toBe('… and 12 more\n12 changes are pending.');
  });
});

describe('which mount is meant', () => {
  let base: string;
  beforeEach(async () => {
    base = await mkdtemp(join(tmpdir(), 'tsfs-target-'));
  });
  afterEach(() => rm(base, { recursive: true }));

  async function mounted(source: string, mountpoint: string): Promise<MountConfig> {
    const { values } = parseOptions(splitOptions(`url=http://127.0.0.1:1,state_dir=${base}`), '/');
    const config = await resolveConfig(parseSource(source), mountpoint, values, { ...HOST, foreground: true });
    await mkdir(config.stateDirectory);
    await writeJob({ config, notices: [] });
    return config;
  }

  function find(word: string | undefined, change: Partial<TargetArguments> & { text?: string } = {}) {
    const options = splitOptions(`state_dir=${base}${change.text ?? ''}`);
    return findTarget({ word, stateDirectory: undefined, options, ...change }, HOST);
  }

  it('by bucket, by directory, by state directory', async () => {
    const photos = await mounted('photos', '/mnt/photos');
    await mounted('photos:/2024', '/mnt/2024');
    expect(await find('photos')).toEqual(photos);
    expect(await find('/mnt/photos')).toEqual(photos);
    expect((await find('photos:/2024')).mountpoint).toBe('/mnt/2024');
    expect(await find(undefined, { stateDirectory: photos.stateDirectory, options: [] })).toEqual(photos);
  });

  it('other options for the store', async () => {
    const photos = await mounted('photos', '/mnt/photos');
    const moved = await find('photos', { text: ',url=http://127.0.0.2:2,retries=0' });
    expect(moved.store).toMatchObject({ endpointUrl: 'http://127.0.0.2:2', retries: 0 });
    expect({ ...moved, store: photos.store }).toEqual(photos);
  });

  it('one sentence when it is none, several, or damaged', async () => {
    await expect(find(undefined)).rejects.toThrow('Say which: a bucket, or the directory of its mount.');
    await expect(find('photos')).rejects.toThrow('No mount of photos has left anything in');
    await mounted('photos', '/mnt/a');
    await mounted('photos', '/mnt/b');
    await expect(find('photos')).rejects.toThrow(/several places: say which of them \(\/mnt\/[ab], \/mnt\/[ab]\)/);
    const stateDirectory = await mkdtemp(join(base, 'other-'));
    await expect(find(undefined, { stateDirectory })).rejects.toThrow('is not the state directory of a mount');
    await writeFile(join(stateDirectory, 'mount.json'), '{');
    await expect(find(undefined, { stateDirectory })).rejects.toThrow('mount.json cannot be read (it is damaged)');
  });

  it('fails with the status that the help tells', async () => {
    const terminal = { out: () => {}, note: () => {}, progress: () => {} };
    const options = ['-o', `state_dir=${base}`];
    expect(await runCli(['pending', 'photos', ...options], terminal)).toBe(1);
    expect(await runCli(['recover', 'photos', ...options], terminal)).toBe(1);
    expect(await runCli(['fsck', 'photos', ...options], terminal)).toBe(8);
    expect(await runCli(['fsck', ...options], terminal)).toBe(2);
  });
});

it('damage that is met on the way: once more, and the index is marked', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tsfs-damage-'));
  const config = { stateDirectory: directory } as MountConfig;
  const failures = [new Database.SqliteError('database disk image is malformed', 'SQLITE_CORRUPT_INDEX')];
  const work = async () => {
    const failure = failures.pop();
    if (failure !== undefined) throw failure;
    return readdir(directory);
  };
  expect(await survivingDamage(config, silentLogger, work)).toEqual(['index.db.damaged-mark']);
  failures.push(new Database.SqliteError('database or disk is full', 'SQLITE_FULL'));
  await expect(survivingDamage(config, silentLogger, work)).rejects.toThrow('full');
  await rm(directory, { recursive: true });
});
