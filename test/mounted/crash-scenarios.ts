/**
 * What is done to a mount while it is made to crash, and what the bucket may have then: each step of a scenario either is acknowledged, and
 * then the bucket comes to have its result by itself, or it is not, and then it was done as a whole or not at all.
 */
import { chmod, mkdir, open, readFile, rename, rmdir, symlink, unlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { FaultPoint } from '../../src/base/fault-points.ts';
import type { TestServer } from './harness.ts';
import { syscalls } from './syscalls.ts';

/** Keys below the scenario's directory, and their contents. Markers end with a slash. */
export type Objects = Readonly<Record<string, string>>;

export interface Step {
  readonly run: () => Promise<unknown>;
  readonly after: Objects;
  /** What may remain besides, when the step was not acknowledged: several calls make it up. */
  readonly between?: readonly Objects[];
}

export interface Place {
  readonly server: TestServer;
  /** Below the mount point. */
  readonly name: string;
  path(...names: string[]): string;
}

export interface Scenario {
  readonly points: readonly FaultPoint[];
  readonly before: Objects;
  /** Brings `before` about. Absent: the files are put into the bucket. */
  readonly prepare?: (place: Place) => Promise<void>;
  readonly steps: (place: Place) => readonly Step[];
}

const MIB = 1024 * 1024;
const LARGE = 'x'.repeat(12 * MIB);
const BASE = 'old '.repeat(75_000);

/** As a program does it that changes a part of a file. */
async function patch(path: string, bytes: string, position: number): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.write(bytes, position);
  } finally {
    await file.close();
  }
}

function patched(content: string, bytes: string, position: number): string {
  return content.slice(0, position) + bytes + content.slice(position + bytes.length);
}

const BURST = ['0', '1', '2', '3'];

const TREE = { 'from/': '', 'from/1': 'one', 'from/2': 'two', 'from/sub/3': 'three' };

/** The same objects below another prefix. */
function moved(objects: Objects, from: string, to: string): Objects {
  const rename = (key: string) => (key.startsWith(from) ? to + key.slice(from.length) : key);
  return Object.fromEntries(Object.entries(objects).map(([key, content]) => [rename(key), content]));
}

export const SCENARIOS: readonly Scenario[] = [
  {
    // A new file, made with O_EXCL: what the worker that died has uploaded must not be taken for another server's.
    points: [
      'create.named',
      'stage.filed',
      'stage.listed',
      'upload.begun',
      'upload.put',
      'upload.noted',
      'settle.taken',
      'settle.unlisted',
    ],
    before: {},
    steps: ({ path }) => [
      {
        run: () => writeFile(path('new'), 'content', { flag: 'wx' }),
        after: { new: 'content' },
        between: [{ new: '' }],
      },
    ],
  },
  {
    // A part of a file: what the staging file does not hold shows through from the bucket.
    points: ['stage.written'],
    before: { file: BASE },
    steps: ({ path }) => [
      { run: () => patch(path('file'), 'new', 200_000), after: { file: patched(BASE, 'new', 200_000) } },
    ],
  },
  {
    // The same in parts, of which most are copied on the server and never come here.
    points: ['upload.parts', 'upload.completed', 'discard.removed'],
    before: { large: LARGE },
    steps: ({ path }) => [
      { run: () => patch(path('large'), 'new', 6 * MIB), after: { large: patched(LARGE, 'new', 6 * MIB) } },
    ],
  },
  {
    points: ['rename.begun', 'rename.copied', 'rename.named', 'rename.deleted'],
    before: { from: 'new', to: 'old' },
    steps: ({ path }) => [{ run: () => rename(path('from'), path('to')), after: { to: 'new' } }],
  },
  {
    points: ['tree.begun', 'tree.planned', 'tree.page', 'tree.copied', 'tree.named', 'tree.deleted', 'tree.forgotten'],
    before: TREE,
    steps: ({ path }) => [{ run: () => rename(path('from'), path('to')), after: moved(TREE, 'from/', 'to/') }],
  },
  {
    // Onto an empty directory, which must be there in any case.
    points: ['tree.marked'],
    before: { ...TREE, 'to/': '' },
    steps: ({ path }) => [{ run: () => rename(path('from'), path('to')), after: moved(TREE, 'from/', 'to/') }],
  },
  {
    // One of the copies is refused, once.
    points: ['tree.undoing', 'tree.undone'],
    before: TREE,
    steps: ({ path, server, name }) => [
      {
        run: async () => {
          server.proxy.addFault({
            effect: { type: 'status', status: 403, code: 'AccessDenied' },
            operations: ['COPY'],
            key: `${name}/to/2`,
            times: 1,
          });
          await rename(path('from'), path('to'));
        },
        after: moved(TREE, 'from/', 'to/'),
      },
    ],
  },
  {
    // The last entry of a directory that only its entries tell of.
    points: ['unlink.kept', 'unlink.deleted'],
    before: { 'implied/file': 'content' },
    steps: ({ path }) => [
      {
        run: () => unlink(path('implied', 'file')),
        after: { 'implied/': '' },
        between: [{ 'implied/': '', 'implied/file': 'content' }],
      },
    ],
  },
  {
    points: ['burst.begun', 'burst.deleted'],
    before: Object.fromEntries(BURST.map((name) => [name, name])),
    steps: ({ path }) => [
      {
        // The kernel sends the next when the one before is answered.
        run: () => Promise.all(BURST.map((name) => unlink(path(name)))),
        after: {},
        between: Array.from({ length: 2 ** BURST.length }, (_, bits) =>
          Object.fromEntries(BURST.filter((_name, i) => (bits >> i) % 2 === 1).map((name) => [name, name])),
        ),
      },
    ],
  },
  {
    points: ['mkdir.put', 'rmdir.deleted'],
    before: {},
    steps: ({ path }) => [
      { run: () => mkdir(path('directory')), after: { 'directory/': '' } },
      { run: () => rmdir(path('directory')), after: {} },
    ],
  },
  {
    points: ['symlink.put'],
    before: {},
    steps: ({ path }) => [{ run: () => symlink('target', path('link')), after: { link: 'target' } }],
  },
  {
    points: ['attributes.stored'],
    before: { file: 'content' },
    steps: ({ path }) => [
      { run: () => chmod(path('file'), 0o600), after: { file: 'content' } },
      { run: () => utimes(path('file'), 1, 2), after: { file: 'content' } },
    ],
  },
  {
    points: ['copy.copied', 'copy.noted'],
    before: { source: 'content' },
    steps: ({ path, server, name }) => [
      {
        run: async () => {
          const script = `open 0 ${name}/source r 0\nopen 1 ${name}/target w,creat 644\ncopyrange 0 0 1 0 7\nclose 1\nclose 0\n`;
          const results = await syscalls(server.dir, script);
          if (results.some((result) => /^E[A-Z]+$/.test(result))) throw new Error(results.join());
          await readFile(path('target'));
        },
        after: { source: 'content', target: 'content' },
        between: [{ source: 'content', target: '' }],
      },
    ],
  },
];

export function placeOf(server: TestServer, name: string): Place {
  return { server, name, path: (...names) => join(server.dir, name, ...names) };
}
