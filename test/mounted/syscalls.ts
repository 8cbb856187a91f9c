/** Runs scripts of system calls (`syscalls.c`) in a process of their own, so that a call that hangs blocks nobody else. */
import { execFile, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll } from 'vitest';

const LIMIT_MS = 60_000;

let building: Promise<string> | undefined;
let buildDirectory: string | undefined;

async function build(): Promise<string> {
  buildDirectory = await mkdtemp(join(tmpdir(), 'tsfs-syscalls-'));
  const program = join(buildDirectory, 'syscalls');
  const source = join(import.meta.dirname, 'syscalls.c');
  await promisify(execFile)('gcc', ['-O1', '-Wall', '-Wextra', '-Werror', '-D_GNU_SOURCE', '-o', program, source]);
  return program;
}

afterAll(async () => {
  if (buildDirectory !== undefined) await rm(buildDirectory, { recursive: true });
});

/** One line a call; resolves with one result for each: a number, text, or the name of an error. */
export async function syscalls(directory: string, script: string): Promise<string[]> {
  building ??= build();
  const { output } = await runProgram(await building, [directory], { input: script });
  return output.split('\n').slice(0, -1);
}

export interface Run {
  readonly output: string;
}

/** Runs a program, not through a shell. Rejects with what it said when it fails. */
export function runProgram(
  program: string,
  args: readonly string[],
  options: { readonly input?: string; readonly limitMs?: number } = {},
): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: '/',
      timeout: options.limitMs ?? LIMIT_MS,
      killSignal: 'SIGKILL',
    });
    let output = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (code === 0) resolve({ output });
      else reject(new Error(`${program} ${args.join(' ')}: ${signal ?? `status ${code}`}\n${errors}${output}`));
    });
    child.stdin.on('error', () => undefined); // It ended before it read everything; its status tells why.
    child.stdin.end(options.input ?? '');
  });
}

/**
 * Runs a shell script in a directory; resolves with its output. The shell changes to the directory: spawn(2)'s `cwd` would block this process,
 * and with it the proxy that a mount there needs.
 */
export async function shell(directory: string, script: string): Promise<string> {
  return (await runProgram('sh', ['-euc', `cd "$0"; ${script}`, directory])).output;
}
