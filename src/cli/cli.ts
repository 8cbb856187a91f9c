/** argv → command. Commands are loaded when they are called: `--help` needs neither the SDK nor the native addon. */
import { resolve } from 'node:path';
import yargs, { type Argv } from 'yargs';
import { VERSION } from '../mount/config.ts';
import { EXIT, MountError } from '../mount/errors.ts';
import { thisHost } from './host.ts';
import { nearest } from './nearest.ts';
import { optionHelp, optionMarkdown } from './option-help.ts';
import { splitOptions } from './parse-options.ts';
import { addFsck, addPending, addRecover, type Run } from './repair-commands.ts';
import { printable, type Terminal } from './terminal.ts';

const COMMANDS = ['mount', 'umount', 'unmount', 'restart', 'status', 'pending', 'recover', 'fsck', 'help'];
const ASKS = ['--help', '-h', '--version', '-V'];

const EPILOGUE = `As a line of /etc/fstab (see scripts/install-helpers):
  BUCKET  /var/www/html/images  fuse.tsfs  _netdev,allow_other,url=https://HOST,uid=33,gid=33  0  0

Exit status: 0 done, 1 failed, 2 wrong usage. The helpers of mount(8) give its numbers: 32 failed, 1 wrong usage.
The options of -o are those of s3fs; "tsfs help options" lists them.`;

const RESTART_EPILOGUE = `The new options are tried first: the bucket must answer with them. When no worker can start with them, those before come back.
What the kernel was told and where things are cannot change while the bucket is mounted: bucket and url, driver, ro, ro_view,
allow_other, default_permissions, noexec, noatime, passthrough, state_dir, use_cache. A line of /etc/fstab is not changed by this.`;

/** Runs one command line (without node and script). Resolves with the exit status; a failure has been printed. */
export async function runCli(argv: readonly string[], terminal: Terminal): Promise<number> {
  let exitCode: number = EXIT.ok;
  const run = (command: () => Promise<number>) => async () => {
    exitCode = await command();
  };
  try {
    await commandLine(normalise(argv), terminal, run).parseAsync();
    return exitCode;
  } catch (error) {
    if (!(error instanceof MountError)) throw error;
    terminal.note(`tsfs: ${error.sentence}`);
    return error.exitCode;
  }
}

/** The form of mount(8), `tsfs BUCKET DIR -o …` with the options anywhere, is `mount`. `-oVALUE` is `-o VALUE`, as in getopt(3). */
function normalise(argv: readonly string[]): string[] {
  const words = argv.flatMap((word) => (/^-o./.test(word) ? ['-o', word.slice(2)] : [word]));
  const takesValue = (word: string | undefined) => word === '-o' || word === '--option' || word === '--url';
  const plain = words.filter((word, index) => !word.startsWith('-') && !takesValue(words[index - 1]));
  // The path '' is the current directory to node: `tsfs umount "$UNSET"` would unmount what nobody named.
  if (plain.includes('')) throw new MountError("An argument is '': a variable that is not set?", EXIT.usage);
  const [first] = plain;
  if (first !== undefined && COMMANDS.includes(first)) return words;
  if (words.some((word) => ASKS.includes(word))) return words;
  // Words alone: a slip of a command rather than half of a mount, or one of a bucket that has almost its name.
  const isAlone = plain.length === words.length;
  if (isAlone && (plain.length < 2 || nearest(first ?? '', COMMANDS) !== undefined)) throw unknownCommand(first);
  return ['mount', ...words];
}

function commandLine(argv: string[], terminal: Terminal, run: Run): Argv {
  const parser = yargs(argv)
    .scriptName('tsfs')
    .locale('en')
    .parserConfiguration({
      'boolean-negation': false,
      'camel-case-expansion': false,
      'dot-notation': false,
      'greedy-arrays': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
      'short-option-groups': false,
    })
    .usage('tsfs mounts S3-compatible buckets as directories.\n\ntsfs COMMAND, or tsfs BUCKET[:/PREFIX] DIR -o …')
    .version(VERSION)
    .alias('version', 'V')
    .help()
    .alias('help', 'h')
    .strict()
    .exitProcess(false)
    .fail((message, error) => {
      throw error ?? usageError(message, argv);
    })
    .wrap(100)
    .epilogue(EPILOGUE);
  addMount(parser, terminal, run);
  addUmount(parser, terminal, run);
  addRestart(parser, terminal, run);
  addStatus(parser, terminal, run);
  addPending(parser, terminal, run);
  addRecover(parser, terminal, run);
  addFsck(parser, terminal, run);
  return addHelp(parser, terminal, run);
}

function addMount(parser: Argv, terminal: Terminal, run: Run): void {
  parser.command(
    'mount [words..]',
    'Mount a bucket; returns when the mount is ready',
    (builder) =>
      builder
        .usage(
          'tsfs mount BUCKET[:/PREFIX] DIR [-o NAME[=VALUE],…]\n\nMounts a bucket, or what of it is below a prefix.',
        )
        .positional('words', { type: 'string', array: true, describe: 'BUCKET[:/PREFIX] and DIR' })
        .option('o', { alias: 'option', type: 'string', array: true, describe: 'Mount options, see below' })
        .option('url', { type: 'string', describe: 'The same as -o url=…' })
        .option('f', { alias: 'foreground', type: 'boolean', describe: 'Stay, and log to stderr' })
        .option('d', { alias: 'debug', type: 'boolean', describe: 'The same as -o dbglevel=dbg' })
        .option('s', { type: 'boolean', hidden: true })
        .example('tsfs mount photos /mnt/photos -o url=https://s3.example.com', '')
        .example('tsfs mount photos:/2024 /mnt/2024 -o ro,passwd_file=/etc/tsfs.keys', 'only what is below 2024/')
        .example('tsfs mount photos /mnt/photos -f -o use_path_request_style,url=http://127.0.0.1:8000', '')
        .epilogue(`${optionHelp()}\n\nA comma within a value is written \\,`),
    (args) => {
      const words = args.words ?? [];
      return run(async () => {
        const { mountCommand } = await import('./mount-command.ts');
        const options = [
          ...(args.d ? [{ name: 'dbglevel', value: 'dbg' }] : []),
          ...(args.url === undefined ? [] : [{ name: 'url', value: args.url }]),
          ...(args.o ?? []).flatMap(splitOptions),
        ];
        return mountCommand({ words, options, foreground: args.f ?? false }, thisHost(), terminal);
      })();
    },
  );
}

function addUmount(parser: Argv, terminal: Terminal, run: Run): void {
  parser.command(
    ['umount [dir]', 'unmount'],
    'Upload what is pending, then unmount',
    (builder) =>
      builder
        .usage('tsfs umount DIR')
        .positional('dir', { type: 'string', describe: 'The mount point' })
        .option('l', { alias: 'lazy', type: 'boolean', describe: 'Unmount even while files in it are open' })
        .option('force', { type: 'boolean', describe: 'Lazily, and leave pending uploads to the next mount' }),
    (args) =>
      run(async () => {
        if (args.dir === undefined) throw new MountError('umount takes a mount point: tsfs umount DIR.', EXIT.usage);
        const { umountCommand } = await import('./umount-command.ts');
        const { dir: directory, l: lazy = false, force = false } = args;
        return umountCommand({ directory, lazy, force }, thisHost().uid, terminal);
      })(),
  );
}

function addRestart(parser: Argv, terminal: Terminal, run: Run): void {
  parser.command(
    'restart [dir]',
    'Have the version that is installed now go on with a mount, or other options',
    (builder) =>
      builder
        .usage(
          'tsfs restart DIR [-o NAME[=VALUE],…]\n\nFiles stay open, and no call fails. The mount keeps its options, but for those that are given here.',
        )
        .positional('dir', { type: 'string', describe: 'The mount point' })
        .option('o', {
          alias: 'option',
          type: 'string',
          array: true,
          describe: 'Options that replace those of the mount',
        })
        .example('tsfs restart /mnt/photos', 'after an upgrade')
        .example('tsfs restart /mnt/photos -o stat_cache_expire=60,dbglevel=dbg', '')
        .epilogue(RESTART_EPILOGUE),
    (args) =>
      run(async () => {
        if (args.dir === undefined) throw new MountError('restart takes a mount point: tsfs restart DIR.', EXIT.usage);
        const { restartCommand } = await import('./restart-command.ts');
        const options = (args.o ?? []).flatMap(splitOptions);
        return restartCommand({ directory: resolve(args.dir), options }, thisHost(), terminal);
      })(),
  );
}

function addStatus(parser: Argv, terminal: Terminal, run: Run): void {
  parser.command(
    'status [dir]',
    'Show all mounts, or one',
    (builder) =>
      builder
        .positional('dir', { type: 'string', describe: 'A mount point' })
        .option('json', { type: 'boolean', describe: 'For programs' }),
    (args) =>
      run(async () => {
        const { statusCommand } = await import('./status-command.ts');
        return statusCommand({ directory: args.dir, json: args.json ?? false }, thisHost().uid, terminal);
      })(),
  );
}

function addHelp(parser: Argv, terminal: Terminal, run: Run): Argv {
  return parser.command(
    'help [topic]',
    'Show this help, that of a command, or all mount options ("help options")',
    (builder) =>
      builder
        .positional('topic', { type: 'string', describe: 'A command, or "options"' })
        .option('markdown', { type: 'boolean', describe: 'The options as Markdown tables' }),
    (args) =>
      run(async () => {
        const { topic } = args;
        if (topic === 'options') terminal.out(args.markdown ? optionMarkdown() : optionHelp());
        else if (topic === undefined) return runCli(['--help'], terminal);
        else if (COMMANDS.includes(topic)) return runCli([topic, '--help'], terminal);
        else throw unknownCommand(topic);
        return EXIT.ok;
      })(),
  );
}

function unknownCommand(given: string | undefined): MountError {
  if (given === undefined)
    return new MountError(`No command was given: ${COMMANDS.join(', ')}; see tsfs --help.`, EXIT.usage);
  const near = nearest(given, COMMANDS);
  const hint = near === undefined ? 'see tsfs --help.' : `did you mean ${near}?`;
  return new MountError(`There is no command ${printable(given)}; ${hint}`, EXIT.usage);
}

/** yargs' complaint as one sentence. */
function usageError(message: string, argv: readonly string[]): MountError {
  const unknown = /^Unknown arguments?: ([^,]+)/.exec(message)?.[1];
  if (unknown !== undefined) {
    const given = argv.find((word) => word.replace(/^-+/, '').split('=')[0] === unknown) ?? unknown;
    return new MountError(`There is no argument ${printable(given)}; see tsfs --help.`, EXIT.usage);
  }
  const first = printable(message.split('\n')[0] ?? 'Wrong usage').replace(/\.$/, '');
  return new MountError(`${first}; see tsfs --help.`, EXIT.usage);
}
