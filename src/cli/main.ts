#!/usr/bin/env node
import { EXIT } from '../mount/errors.ts';
import { runCli } from './cli.ts';
import { systemTerminal } from './terminal.ts';

// The reader of a pipe may go away (`tsfs status | head`).
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', () => process.exit(EXIT.failure));
}

process.exit(await runCli(process.argv.slice(2), systemTerminal));
