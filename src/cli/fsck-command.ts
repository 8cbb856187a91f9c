/** `tsfs fsck BUCKET|DIR [--repair] [--json]` */
import { EXIT, MountError } from '../mount/errors.ts';
import { fsck } from '../mount/fsck.ts';
import type { Finding } from '../mount/fsck-scene.ts';
import { commandLog } from './command-log.ts';
import type { Host } from './host.ts';
import { findTarget, type TargetArguments } from './target.ts';
import { printable, type Terminal } from './terminal.ts';

/** Those of fsck(8). */
const FSCK = { clean: 0, repaired: 1, left: 4, failed: 8 } as const;

export interface FsckArguments extends TargetArguments {
  readonly repair: boolean;
  readonly json: boolean;
}

export async function fsckCommand(args: FsckArguments, host: Host, terminal: Terminal): Promise<number> {
  try {
    return await check(args, host, terminal);
  } catch (error) {
    if (!(error instanceof MountError) || error.exitCode === EXIT.usage) throw error;
    terminal.note(`tsfs: ${error.sentence}`);
    return FSCK.failed;
  }
}

async function check(args: FsckArguments, host: Host, terminal: Terminal): Promise<number> {
  const config = await findTarget(args, host);
  const report = await fsck({
    config,
    isRepairing: args.repair,
    log: await commandLog(config),
    onProgress: (text) => terminal.progress(text),
    onFinding: (finding) => {
      terminal.progress('');
      terminal.out(args.json ? JSON.stringify(finding) : line(finding, args.repair));
    },
  });
  if (report.obstacle !== undefined) terminal.note(`tsfs: Not everything was looked at. ${report.obstacle}`);
  if (args.json) terminal.out(JSON.stringify(report));
  else terminal.note(summary(config.source, report.findings, report.isRepaired));
  if (report.findings > 0 && !report.isRepaired) return FSCK.left;
  if (report.obstacle !== undefined) return FSCK.failed;
  return report.findings === 0 ? FSCK.clean : FSCK.repaired;
}

function line({ area, path, text, repair }: Finding, isRepaired: boolean): string {
  const where = path === undefined ? '' : `/${path}: `;
  const how = repair === undefined ? '' : `; ${isRepaired ? 'repaired' : 'repair'}: ${repair}`;
  return printable(`${area.padEnd(8)} ${where}${text}${how}`);
}

function summary(source: string, findings: number, isRepaired: boolean): string {
  if (findings === 0) return `${source}: clean.`;
  const count = findings === 1 ? '1 finding' : `${findings} findings`;
  return `${source}: ${count}${isRepaired ? ', repaired.' : '; --repair repairs them.'}`;
}
