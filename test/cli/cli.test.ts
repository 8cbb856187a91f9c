import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCli } from '../../src/cli/cli.ts';
import { editDistance, nearest } from '../../src/cli/nearest.ts';
import { wrap } from '../../src/cli/option-help.ts';
import { duration, size } from '../../src/cli/status-text.ts';
import type { Terminal } from '../../src/cli/terminal.ts';
import { VERSION } from '../../src/mount/config.ts';
import { EXIT } from '../../src/mount/errors.ts';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tsfs-cli-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function run(...argv: string[]): Promise<{ exitCode: number; out: string; notes: string }> {
  const out: string[] = [];
  const notes: string[] = [];
  const terminal: Terminal = {
    out: (text) => void out.push(text),
    note: (text) => void notes.push(text),
    progress: () => {},
  };
  const exitCode = await runCli(argv, terminal);
  return { exitCode, out: out.join('\n'), notes: notes.join('\n') };
}

const COMMANDS = 'mount, umount, unmount, restart, status, pending, recover, fsck, help';

describe('wrong usage is one sentence and exit status 2', () => {
  it.each([
    [[], `No command was given: ${COMMANDS}; see tsfs --help.`],
    [['statsu'], 'There is no command statsu; did you mean status?'],
    [['umoutn', '/mnt'], 'There is no command umoutn; did you mean umount?'],
    [['moutn', 'photos', '/mnt'], 'There is no command moutn; did you mean mount?'],
    [['frobnicate'], 'There is no command frobnicate; see tsfs --help.'],
    [['help', 'frobnicate'], 'There is no command frobnicate; see tsfs --help.'],
    [['status', '--jsn'], 'There is no argument --jsn; see tsfs --help.'],
    [['status', '/a', '/b'], 'There is no argument /b; see tsfs --help.'],
    [['umount', ''], "An argument is '': a variable that is not set?"],
    [['photos', '', '-f'], "An argument is '': a variable that is not set?"],
    [['umount'], 'umount takes a mount point: tsfs umount DIR.'],
    [['mount', 'photos'], 'A mount takes a bucket and a directory: tsfs mount BUCKET[:/PREFIX] DIR.'],
    [['photos', '/a', '/b'], 'A mount takes a bucket and a directory: tsfs mount BUCKET[:/PREFIX] DIR.'],
    [['photos', '/a', '-o', 'allow_othr'], 'There is no option "allow_othr"; did you mean allow_other?'],
    [['-oallow_othr', 'photos', '/a'], 'There is no option "allow_othr"; did you mean allow_other?'],
    [['mount', 'photos', '/a', '-o', 'rw', '-o', 'uid=x'], 'The option uid takes a whole number, not "x".'],
    [['--url', 'nonsense', 'photos', '/a'], 'The option url takes an address like https://host, not "nonsense".'],
    [['--fast', 'photos', '/a'], 'There is no argument --fast; see tsfs --help.'],
  ])('%j', async (argv, sentence) => {
    expect(await run(...argv)).toEqual({ exitCode: EXIT.usage, out: '', notes: `tsfs: ${sentence}` });
  });

  it('whatever the words', async () => {
    const word = fc.oneof(fc.string(), fc.constantFrom('-o', '--', '-f', 'help', 'status', 'rw,ro', '--json', '-x'));
    const asks = /^(--?(h|help|V|version)|help|mount|umount|unmount)(=.*)?$/;
    // Nor may a word like "." name a directory: with -f, this process would become its daemon.
    const isExcluded = (each: string) => asks.test(each) || (each !== '' && existsSync(resolve(each)));
    const argvs = fc.array(word, { maxLength: 3 }).filter((argv) => !argv.some(isExcluded));
    await fc.assert(
      fc.asyncProperty(argvs, async (argv) => {
        const { exitCode, notes } = await run(...argv);
        if (exitCode === EXIT.usage) expect(notes).toMatch(/^tsfs: [\s\S]+[.?]$/);
        else expect([EXIT.ok, EXIT.failure]).toContain(exitCode);
      }),
      { numRuns: 60 },
    );
  });
});

describe('what cannot be mounted is one sentence and exit status 1', () => {
  it('in every form of the command', async () => {
    const missing = join(directory, 'missing');
    const expected = { exitCode: EXIT.failure, out: '', notes: `tsfs: The directory ${missing} does not exist.` };
    expect(await run('mount', 'photos', missing)).toEqual(expected);
    expect(await run('photos:/a', missing, '-o', 'rw,_netdev')).toEqual(expected);
    expect(await run('-o', 'rw,_netdev', 'photos', missing)).toEqual(expected);
    expect(await run('-o', 'rw', '-o', '_netdev', 'tsfs#photos', missing)).toEqual(expected);
    expect(await run('mount', missing, '-o', 'bucket=photos')).toEqual(expected);
  });

  it('a file, a busy mount point, the root', async () => {
    const file = join(directory, 'file');
    await writeFile(file, '');
    expect((await run('photos', file)).notes).toBe(`tsfs: ${file} is not a directory.`);
    expect((await run('photos', '/proc')).notes).toContain('tsfs: /proc is a mount point already: ');
    expect((await run('photos', '/')).notes).toBe('tsfs: A bucket cannot be mounted on /.');
  });

  it('a cache or state that the mount would hide, or that is in the cache', async () => {
    const cache = `use_cache=${join(directory, 'cache')}`;
    expect((await run('photos', directory, '-o', cache)).notes).toContain(`is inside ${directory}, which the mount`);
    const state = `use_cache=/var/cache,state_dir=${directory}`;
    expect((await run('photos', directory, '-o', state)).notes).toContain('The state directory');
  });

  it('unmounting what is not mounted', async () => {
    expect((await run('umount', directory)).notes).toBe(`tsfs: Nothing is mounted on ${directory}.`);
    expect((await run('umount', '/proc')).notes).toMatch(/^tsfs: \/proc is not a mount of tsfs, but of type /);
    expect((await run('status', directory)).notes).toBe(`tsfs: Nothing is mounted by tsfs on ${directory}.`);
  });
});

describe('help', () => {
  it('lists options, also as Markdown', async () => {
    expect(await run('help', 'options')).toMatchObject({ exitCode: 0, out: expect.stringContaining('url=URL') });
    expect((await run('help', 'options', '--markdown')).out).toContain('| `url=URL`, `host` |');
  });

  it('knows the version of the package', () => {
    expect(VERSION).toMatch(/^\d+\.\d+\.\d+/);
  });
});

describe('small things', () => {
  it('finds the word that was meant', () => {
    expect(editDistance('kitten', 'sitting')).toBe(3);
    expect(nearest('url_', ['uid', 'url'])).toBe('url');
    expect(nearest('zzzz', ['uid', 'url'])).toBeUndefined();
  });

  it('breaks lines between words and loses none', () => {
    fc.assert(
      fc.property(fc.array(fc.stringMatching(/^\S{1,12}$/), { minLength: 1 }), (words) => {
        const lines = wrap(words.join(' '), 20);
        expect(lines.join(' ')).toBe(words.join(' '));
        expect(lines.every((line) => line.length <= 20)).toBe(true);
      }),
    );
  });

  it('writes sizes and times for people', () => {
    expect([0, 1023, 1024, 1536, 1e9, 1e18].map(size)).toEqual([
      ...['0 B', '1023 B', '1.0 KiB', '1.5 KiB', '954 MiB', '888 PiB'],
    ]);
    expect([0, 61_000, 3_600_000, 90_061_000].map(duration)).toEqual(['0 s', '1 min 1 s', '1 h 0 min', '1 d 1 h']);
  });
});
