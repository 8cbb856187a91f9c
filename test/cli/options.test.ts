import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { optionHelp, optionMarkdown } from '../../src/cli/option-help.ts';
import { OPTION_SPECS, type OptionValues } from '../../src/cli/options.ts';
import { parseOptions, type RawOption, splitOptions } from '../../src/cli/parse-options.ts';
import { MountError } from '../../src/mount/errors.ts';

const parse = (text: string) => parseOptions(splitOptions(text), '/work');
const values = (text: string): OptionValues => parse(text).values;

function refusal(text: string): string {
  try {
    parse(text);
  } catch (error) {
    if (error instanceof MountError) return error.sentence;
    throw error;
  }
  throw new Error(`accepted: ${text}`);
}

/** The inverse of `splitOptions`. */
function join(options: readonly RawOption[]): string {
  const escaped = (text: string) => text.replace(/[\\,]/g, '\\$&');
  return options.map(({ name, value }) => (value === undefined ? name : `${name}=${escaped(value)}`)).join(',');
}

describe('splitting', () => {
  it('takes a character after a backslash as it is', () => {
    expect(splitOptions('a=1\\,2,b,c=x\\\\y')).toEqual([
      { name: 'a', value: '1,2' },
      { name: 'b', value: undefined },
      { name: 'c', value: 'x\\y' },
    ]);
  });

  it('ignores empty words', () => {
    expect(splitOptions(',,rw,,noatime,').map(({ name }) => name)).toEqual(['rw', 'noatime']);
  });

  it('gives back what was joined', () => {
    const word = fc.string({ minLength: 1 }).map((text) => text.trim());
    const option = fc.record({
      name: fc.stringMatching(/^[a-z_]{1,20}$/),
      value: fc.option(word, { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.array(option), (options) => {
        expect(splitOptions(join(options))).toEqual(options);
      }),
    );
  });
});

describe('values', () => {
  it("are in s3fs's units", () => {
    expect(values('multipart_size=20,ensure_diskfree=100,stat_cache_expire=20,connect_timeout=1.5')).toEqual({
      multipart_size: 20 * 1024 * 1024,
      ensure_diskfree: 100 * 1024 * 1024,
      stat_cache_expire: 20_000,
      connect_timeout: 1500,
    });
    expect(values('umask=0022,mp_umask=7,uid=33')).toEqual({ umask: 0o022, mp_umask: 7, uid: 33 });
    expect(values('cache_size=2G,bucket_size=10TB')).toEqual({
      cache_size: 2 * 1024 ** 3,
      bucket_size: 10 * 1000 ** 4,
    });
  });

  it('the last one wins, also between opposites', () => {
    expect(values('ro,rw')).toEqual({ ro: false });
    expect(values('rw,ro')).toEqual({ ro: true });
    expect(values('retries=1,retries=3')).toEqual({ retries: 3 });
    expect(values('allow_other,allow_other=0')).toEqual({ allow_other: false });
  });

  it('paths are absolute', () => {
    expect(values('passwd_file=keys,use_cache=/a/../b')).toEqual({ passwd_file: '/work/keys', use_cache: '/b' });
  });

  it('aliases mean their option', () => {
    expect(values('region=eu-1,host=https://h/,parallel_upload=3')).toEqual({
      endpoint: 'eu-1',
      url: 'https://h',
      parallel_count: 3,
    });
  });

  it('takes the line of the deployment toolkit', () => {
    const line =
      'passwd_file=/root/.passwd-s3fs,use_cache=/home/s3mount_cache,allow_other,kernel_cache,use_path_request_style,' +
      'uid=33,gid=33,max_stat_cache_size=10000,stat_cache_expire=20,multireq_max=3,url=https://fra1.example.com';
    expect(parse(line).notices).toEqual([]);
    expect(values(line)).toMatchObject({ max_stat_cache_size: 10_000, multireq_max: 3, allow_other: true });
  });

  it('takes words of mount(8) in silence, and says what does nothing', () => {
    expect(parse('rw,_netdev,noauto,user=joe,x-systemd.automount,comment=a=b,nofail,relatime')).toEqual({
      values: { ro: false },
      notices: [],
    });
    expect(parse('cipher_suites=a:b').notices).toEqual([
      'The option cipher_suites does nothing here: those of Node are used.',
    ]);
  });
});

describe('one sentence for each fault', () => {
  it.each([
    ['allow_othr', 'There is no option "allow_othr"; did you mean allow_other?'],
    [
      'remount',
      'The option remount is refused: tsfs restart DIR -o … gives a mount other options, or unmount it and mount it anew.',
    ],
    ['qqqqqqqqqqqq', 'There is no option "qqqqqqqqqqqq"; tsfs help options lists all.'],
    ['uid', 'The option uid needs a value: uid=UID.'],
    ['uid=www', 'The option uid takes a whole number, not "www".'],
    ['uid=-1', 'The option uid takes a whole number, not "-1".'],
    ['uid=99999999999', 'The option uid takes a whole number, not "99999999999".'],
    ['umask=8', 'The option umask takes an octal mode like 022, not "8".'],
    ['multipart_size=4', 'The option multipart_size must be at least 5.'],
    ['multipart_size=10M', 'The option multipart_size takes a whole number of megabytes, not "10M".'],
    ['multireq_max=0', 'The option multireq_max must be at least 1.'],
    ['free_space_ratio=101', 'The option free_space_ratio must be at most 100.'],
    ['cache_size=big', 'The option cache_size takes a size like 500M or 10G, not "big".'],
    ['url=fra1.example.com', 'The option url takes an address like https://host, not "fra1.example.com".'],
    ['url=https://me:secret@host', 'The option url must not hold a user or a password.'],
    ['durability=never', 'The option durability is one of remote, local, not "never".'],
    ['ro=maybe', 'The option ro is a switch: give it alone, or as ro=1 or ro=0.'],
    ['uid=\x1b[2J', 'The option uid takes a whole number, not "?[2J".'],
  ])('%s', (text, sentence) => {
    expect(refusal(text)).toBe(sentence);
  });

  it('refuses sigv2 with the reason', () => {
    expect(refusal('sigv2')).toMatch(/^The option sigv2 is refused: .*no longer safe/);
  });

  it('never fails in another way', () => {
    const names = OPTION_SPECS.flatMap(([name, spec]) => [name, ...(spec.aliases ?? [])]);
    const word = fc.oneof(fc.string(), fc.constantFrom(...names), fc.tuple(fc.constantFrom(...names), fc.string()));
    fc.assert(
      fc.property(fc.array(word), (words) => {
        const text = words.map((each) => (typeof each === 'string' ? each : each.join('='))).join(',');
        try {
          parse(text);
        } catch (error) {
          expect(error).toBeInstanceOf(MountError);
          expect((error as MountError).sentence).toMatch(/^The(re)? .*[.?]$/s);
          expect((error as MountError).exitCode).toBe(2);
        }
      }),
    );
  });
});

describe('the table', () => {
  it('names each word once', () => {
    const words = OPTION_SPECS.flatMap(([name, spec]) => [name, ...(spec.aliases ?? []), spec.opposite ?? []].flat());
    expect(words).toHaveLength(new Set(words).size);
  });

  it('is all in the help, which fits a terminal', () => {
    const help = optionHelp();
    for (const [name] of OPTION_SPECS) expect(help).toContain(name);
    expect(Math.max(...help.split('\n').map((line) => line.length))).toBeLessThanOrEqual(100);
  });

  it('is all in the Markdown, in rows of three cells', () => {
    const markdown = optionMarkdown();
    for (const [name] of OPTION_SPECS) expect(markdown).toContain(`\`${name}`);
    for (const row of markdown.split('\n').filter((line) => line.startsWith('|'))) {
      expect(row.replaceAll('\\|', '').split('|')).toHaveLength(5);
    }
  });
});
