/**
 * A load for tests that disturb a mount, as a process of its own: it waits in system calls. Any call that fails, and any byte that is
 * wrong, is reported. `node load.ts hot|mixed DIRECTORY SEED [VIEW]`, until SIGTERM; then one line of JSON, a `LoadReport`. Hot files are read in
 * VIEW, where the same directory shows.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmdirSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';

export interface LoadReport {
  /** Rounds of the load. */
  readonly rounds: number;
  readonly failures: readonly string[];
  /** What must be there at the end: path below the directory → SHA-256 of the content. */
  readonly files: Readonly<Record<string, string>>;
}

const HOT_FILES = 50;
const HOT_BYTES = 40_000;
const NAMES = 12;
const MAX_FAILURES = 20;

const [, , kind = '', directory = '', seed = '0', view = directory] = process.argv;
const failures: string[] = [];
const files: Record<string, string> = {};
let rounds = 0;
let isOver = false;
let state = Number(seed) + 1;

/** A linear congruential generator: the same load for the same seed. */
function random(below: number): number {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
}

function content(sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes, `${seed}.${rounds}.${random(1_000_000)}\n`);
  return bytes;
}

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function attempt(what: string, call: () => void): void {
  try {
    call();
  } catch (error) {
    if (failures.length < MAX_FAILURES) failures.push(`round ${rounds}, ${what}: ${String(error)}`);
  }
}

function expectSame(path: string, bytes: Uint8Array): void {
  const found = readFileSync(path);
  if (!found.equals(bytes)) throw new Error(`${path} has ${found.length} wrong bytes, not ${bytes.length}`);
}

// Hot: what a web server does for each request.

const hotContents = new Map<string, Buffer>();

function prepareHot(): void {
  for (let i = 0; i < HOT_FILES; i += 1) {
    const name = `image ${i}.jpg`;
    const bytes = content(HOT_BYTES);
    writeFileSync(join(directory, name), bytes);
    hotContents.set(join(view, name), bytes);
    files[name] = digest(bytes);
  }
}

function hotRound(): void {
  for (const [path, bytes] of hotContents) {
    attempt('open, stat, read, close', () => {
      if (statSync(path).size !== bytes.length) throw new Error(`${path} has another size`);
      expectSame(path, bytes);
    });
  }
}

// Mixed: everything that changes a directory.

function replaceAtomically(name: string, bytes: Buffer): void {
  const path = join(directory, name);
  writeFileSync(`${path}.tmp`, bytes);
  renameSync(`${path}.tmp`, path);
  files[name] = digest(bytes);
  expectSame(path, bytes);
}

/** In pieces over several system calls, so that the file is open while the worker dies. */
function writeInPieces(name: string, bytes: Buffer): void {
  const fd = openSync(join(directory, name), 'w');
  for (let at = 0; at < bytes.length; at += 8192) writeSync(fd, bytes, at, Math.min(8192, bytes.length - at), at);
  if (random(2) === 0) fsyncSync(fd);
  closeSync(fd);
  files[name] = digest(bytes);
  expectSame(join(directory, name), bytes);
}

function append(name: string): void {
  if (files[name] === undefined) return;
  const path = join(directory, name);
  const before = readFileSync(path);
  const more = content(1 + random(3000));
  const fd = openSync(path, 'a');
  writeSync(fd, more);
  closeSync(fd);
  const after = Buffer.concat([before, more]);
  files[name] = digest(after);
  expectSame(path, after);
}

function cut(name: string): void {
  if (files[name] === undefined) return;
  const path = join(directory, name);
  const whole = readFileSync(path);
  const sizeBytes = random(whole.length + 1);
  truncateSync(path, sizeBytes);
  files[name] = digest(whole.subarray(0, sizeBytes));
  expectSame(path, whole.subarray(0, sizeBytes));
}

/** A file that is deleted while it is open goes on until it is closed. */
function readUnlinked(bytes: Buffer): void {
  const path = join(directory, 'unlinked');
  const fd = openSync(path, 'wx+');
  writeSync(fd, bytes);
  unlinkSync(path);
  const found = Buffer.alloc(bytes.length);
  const count = readSync(fd, found, 0, found.length, 0);
  closeSync(fd);
  if (count !== bytes.length || !found.equals(bytes)) throw new Error('an unlinked file lost its content');
}

function directories(): void {
  const [first, second] = [join(directory, 'sub'), join(directory, 'sub moved')];
  mkdirSync(first);
  writeFileSync(join(first, 'file'), 'content');
  symlinkSync('file', join(first, 'link'));
  renameSync(first, second);
  expectSame(join(second, 'link'), Buffer.from('content'));
  unlinkSync(join(second, 'link'));
  unlinkSync(join(second, 'file'));
  rmdirSync(second);
}

function remove(name: string): void {
  if (files[name] === undefined) return;
  unlinkSync(join(directory, name));
  delete files[name];
}

function listing(): void {
  const found = readdirSync(directory).filter((name) => name.startsWith('file'));
  const expected = Object.keys(files);
  if (found.sort().join() !== expected.sort().join()) throw new Error(`listed ${found}, expected ${expected}`);
}

function mixedRound(): void {
  const name = `file ${random(NAMES)}`;
  const bytes = content(1 + random(100_000));
  const steps: [string, () => void][] = [
    ['replace', () => replaceAtomically(name, bytes)],
    ['write', () => writeInPieces(name, bytes)],
    ['append', () => append(name)],
    ['truncate', () => cut(name)],
    ['unlinked', () => readUnlinked(bytes)],
    ['directories', directories],
    ['remove', () => remove(name)],
    ['list', listing],
  ];
  const [what, step] = steps[random(steps.length)] ?? ['list', listing];
  attempt(what, step);
}

process.on('SIGTERM', () => {
  isOver = true;
});
const round = kind === 'hot' ? hotRound : mixedRound;
if (kind === 'hot') attempt('prepare', prepareHot);
process.stdout.write('started\n');
while (!isOver) {
  rounds += 1;
  round();
  await turn();
}
process.stdout.write(`${JSON.stringify({ rounds, failures, files } satisfies LoadReport)}\n`);
