/** The commands for what is not in the bucket yet, and for what is damaged: `pending`, `recover`, `fsck`. */
import type { Argv } from 'yargs';
import { splitOptions } from './parse-options.ts';
import type { TargetArguments } from './target.ts';
import type { Terminal } from './terminal.ts';

type Run = (command: () => Promise<number>) => () => Promise<void>;

const TARGET = `BUCKET[:/PREFIX] is what was mounted, DIR where. Its options are remembered from the last mount; with -o those of the store
are given anew, all of them. State in another place is found with -o state_dir=… (as mount had it) or --state-dir.`;

const PENDING = `tsfs pending BUCKET|DIR [--json]

Lists what the bucket does not have yet: uploads, renames and deletes that failed or wait, since when, and why; and what was
set aside in lost+found. Asks the daemon of the mount, or looks at the state that it left.`;

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
          `${TARGET}\n\nExit status: 0 nothing is pending, 1 something is, or it cannot be told, 2 wrong usage.`,
        ),
    (args) =>
      run(async () => {
        const { pendingCommand } = await import('./pending-command.ts');
        return pendingCommand({ ...targetOf(args), json: args.json ?? false }, host(), terminal);
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

function host() {
  return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, environment: process.env };
}
