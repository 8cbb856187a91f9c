/** `tsfs recover BUCKET|DIR [--export DIR] [--json]` */
import { resolve } from 'node:path';
import { EXIT } from '../mount/errors.ts';
import type { ExportedFile } from '../mount/export.ts';
import { exportTo, type RecoverRun, recoverPending } from '../mount/recover.ts';
import { commandLog } from './command-log.ts';
import type { Host } from './host.ts';
import { pendingText } from './pending-text.ts';
import { findTarget, type TargetArguments } from './target.ts';
import { printable, type Terminal } from './terminal.ts';

export interface RecoverArguments extends TargetArguments {
  readonly export: string | undefined;
  readonly json: boolean;
}

export async function recoverCommand(args: RecoverArguments, host: Host, terminal: Terminal): Promise<number> {
  const config = await findTarget(args, host);
  const log = await commandLog(config);
  const run = { config, log, onProgress: (text: string) => terminal.progress(text) };
  return args.export === undefined
    ? upload(run, args.json, terminal)
    : exportFiles(run, resolve(args.export), args.json, terminal);
}

async function upload(run: RecoverRun, json: boolean, terminal: Terminal): Promise<number> {
  const report = await recoverPending(run);
  if (json) terminal.out(JSON.stringify(report, undefined, 2));
  else terminal.out(`${counted(report.uploaded)} uploaded.\n${pendingText(report.remaining, Date.now())}`);
  return report.remaining.count === 0 ? EXIT.ok : EXIT.failure;
}

async function exportFiles(run: RecoverRun, directory: string, json: boolean, terminal: Terminal): Promise<number> {
  let count = 0;
  let partial = 0;
  await exportTo(run, directory, (file) => {
    terminal.progress('');
    count += 1;
    if (file.missing.length > 0) partial += 1;
    terminal.out(json ? JSON.stringify(file) : line(file));
  });
  if (!json)
    terminal.note(`${counted(count)} exported to ${directory}${partial > 0 ? `, ${partial} of them in part` : ''}.`);
  return partial === 0 ? EXIT.ok : EXIT.failure;
}

function line({ path, missing }: ExportedFile): string {
  if (missing.length === 0) return printable(path);
  const ranges = missing.map(({ start, end }) => `${start}-${end - 1}`).join(', ');
  return printable(`${path}: bytes ${ranges} are zeros here, as only the bucket has them`);
}

function counted(files: number): string {
  return files === 1 ? '1 file' : `${files} files`;
}
