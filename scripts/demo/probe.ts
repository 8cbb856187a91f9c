/**
 * node probe.ts STEP PATH [ARGUMENT]: does one thing with files and prints the milliseconds that it took. A process of its own, so
 * that it can use the direct calls, which cost least, and be killed when the file system hangs.
 */
import { closeSync, fstatSync, lstatSync, openSync, readdirSync, readSync, renameSync, writeSync } from 'node:fs';
import { makeImage } from './images.ts';

const BUFFER = Buffer.alloc(256 * 1024);

function read(path: string): void {
  const fd = openSync(path, 'r');
  const { size } = fstatSync(fd);
  let total = 0;
  for (let count = -1; count !== 0; total += count) count = readSync(fd, BUFFER);
  closeSync(fd);
  if (total !== size) throw new Error(`${path}: ${total} bytes read of ${size}`);
}

function elapsedMs(body: () => void): number {
  const startMs = performance.now();
  body();
  return performance.now() - startMs;
}

/** Median of many. */
function typicalMs(times: number, body: () => void): number {
  const samples = Array.from({ length: times }, () => elapsedMs(body)).sort((a, b) => a - b);
  return samples[Math.floor(times / 2)] ?? Number.NaN;
}

function list(directory: string): void {
  for (const name of readdirSync(directory)) lstatSync(`${directory}/${name}`);
}

/** Create, write, close: on tsfs the bucket has the file when close returns. */
function write(path: string, content: Uint8Array): void {
  const fd = openSync(path, 'wx');
  writeSync(fd, content);
  closeSync(fd);
}

function measure(step: string, path: string, argument: string): number {
  switch (step) {
    case 'read':
      return elapsedMs(() => read(path));
    case 'reread':
      return typicalMs(Number(argument), () => read(path));
    case 'list':
      return elapsedMs(() => list(path));
    case 'write': {
      const content = makeImage(Number(argument));
      return elapsedMs(() => write(path, content));
    }
    case 'rename':
      return elapsedMs(() => renameSync(path, argument));
    default:
      throw new Error(`no step "${step}"`);
  }
}

const [step = '', path = '', argument = ''] = process.argv.slice(2);
process.stdout.write(`${measure(step, path, argument)}\n`);
