/** The commands for what is not in the bucket yet, and for what is damaged: `pending`, `recover`, `fsck`. */
import type { Argv } from 'yargs';
import { thisHost } from './host.ts';
import { splitOptions } from './parse-options.ts';
import type { TargetArguments } from './target.ts';
import type { Terminal } from './terminal.ts';

/** Makes a handler of yargs of a command that resolves with its exit status. */
export type Run = (command: () => Promise<number>) => () => Promise<void>;

/** Paragraphs: lines are broken to the width of the help, not as they stand here. */
function text(...paragraphs: string[]): string {
  return paragraphs.map((paragraph) => paragraph.replace(/\s+/g, ' ')).join('\n\n');
}

const TARGET = `BUCKET[:/PREFIX] is what was mounted, DIR where. Its options are remembered from the last mount; with -o those of the store are given
  anew, all of them. State in another place is found with -o state_dir=… (as mount had it) or --state-dir.`;

const PENDING = text(
  'tsfs pending BUCKET|DIR [--json]',
  `Lists what the bucket does not have yet: uploads, renames and deletes that failed or wait, since when, and why; and what was set aside
  in lost+found. Asks the daemon of the mount, or looks at the state that it left.`,
);

const RECOVER = text(
  'tsfs recover BUCKET|DIR [--export DIR] [--json]',
  `Brings to the bucket what a mount that has ended or crashed still owes it, without mounting: uploads, renames, deletes. (The next mount does
  the same by itself, in the background.)`,
  `With --export the bucket gets nothing: staged files are copied to DIR, with their paths, and those of lost+found too. Parts that nobody
  changed are fetched from the bucket; where it is away, it is told which are missing. They stay pending.`,
);

const FSCK = text(
  'tsfs fsck BUCKET|DIR [--repair] [--json]',
  `Compares the index, what is staged, and the cache of a mount with each other and with the bucket, while it is not mounted: one line for
  each finding, with what repairing would do. Reads the whole cache and lists the whole bucket.`,
  `Repairing never removes the only copy of anything: what cannot be brought to the bucket is kept in lost+found.`,
);

export function addPending(parser: Argv, terminal: Terminal, run: Run): void {
  parser.command(
    'pending [target]',
    'List what the bucket does not have yet',
    (builder) =>
      targetOptions(builder.usage(PENDING))
        .option('json', { type: 'boolean', describe: 'For programs' })
        .example('tsfs pending /mnt/photos', 'of a mount that is there')
        .example('tsfs pending photos', 'of a mount that has ended, or crashed')
        .example('tsfs pending photos --json | jq -r .changes[].path', '')
        .epilogue(
          text(TARGET, 'Exit status: 0 nothing is pending, 1 something is (or it cannot be told), 2 wrong usage.'),
        ),
    (args) =>
      run(async () => {
        const { pendingCommand } = await import('./pending-command.ts');
        return pendingCommand({ ...targetOf(args), json: args.json ?? false }, thisHost(), terminal);
      })(),
  );
}

export function addRecover(parser: Argv, terminal: Terminal, run: Run): void {
  parser.command(
    'recover [target]',
    'Finish or export what the bucket does not have, without a mount',
    (builder) =>
      targetOptions(builder.usage(RECOVER))
        .option('export', { type: 'string', describe: 'An empty or new directory for the staged files' })
        .option('json', { type: 'boolean', describe: 'For programs' })
        .example('tsfs recover photos', 'upload what a crash has left')
        .example('tsfs recover photos --export /root/rescue', 'the store is gone: have the files')
        .example('tsfs recover photos -o url=https://other.example.com', 'the store is somewhere else now')
        .epilogue(
          text(
            TARGET,
            'Exit status: 0 the bucket has everything, or all is exported; 1 not everything; 2 wrong usage.',
          ),
        ),
    (args) =>
      run(async () => {
        const { recoverCommand } = await import('./recover-command.ts');
        return recoverCommand(
          { ...targetOf(args), export: args.export, json: args.json ?? false },
          thisHost(),
          terminal,
        );
      })(),
  );
}

export function addFsck(parser: Argv, terminal: Terminal, run: Run): void {
  parser.command(
    'fsck [target]',
    'Check, and repair, what is kept on this host of a bucket',
    (builder) =>
      targetOptions(builder.usage(FSCK))
        .option('repair', { type: 'boolean', describe: 'Repair what is found' })
        .option('json', { type: 'boolean', describe: 'For programs: a line for each finding, and one at the end' })
        .example('tsfs umount /mnt/photos && tsfs fsck photos', '')
        .example('tsfs fsck photos --repair', '')
        .epilogue(
          text(
            TARGET,
            `Exit status, as of fsck(8): 0 clean, 1 all findings repaired, 4 findings left, 8 it could not be checked (it is mounted, or the bucket
            does not answer), 2 wrong usage.`,
          ),
        ),
    (args) =>
      run(async () => {
        const { fsckCommand } = await import('./fsck-command.ts');
        const { repair = false, json = false } = args;
        return fsckCommand({ ...targetOf(args), repair, json }, thisHost(), terminal);
      })(),
  );
}

function targetOptions(builder: Argv) {
  return builder
    .positional('target', { type: 'string', describe: 'BUCKET[:/PREFIX], or DIR' })
    .option('o', { alias: 'option', type: 'string', array: true, describe: 'Options as for mount' })
    .option('state-dir', { type: 'string', describe: 'The state directory itself (… /BUCKET-HASH)' });
}

interface TargetWords {
  readonly target?: string | undefined;
  readonly o?: readonly string[] | undefined;
  readonly 'state-dir'?: string | undefined;
}

function targetOf(args: TargetWords): TargetArguments {
  return { word: args.target, stateDirectory: args['state-dir'], options: (args.o ?? []).flatMap(splitOptions) };
}
