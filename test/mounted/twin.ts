/** Operations done twice: on a mount and in a directory of the local disk, which says what the result must be. */
import { createHash } from 'node:crypto';
import {
  chmod,
  type FileHandle,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  rename,
  rmdir,
  symlink,
  truncate,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { RandomSource } from './random-source.ts';
import { syscalls } from './syscalls.ts';

const NAMES = ['a', 'b', 'c', 'd', 'e', 'file.txt', 'pic.jpg', 'ü'];
const TARGETS = ['a', 'b', '../a', 'c/d', 'nowhere', '.'];
const MODES = [0o600, 0o640, 0o644, 0o664, 0o700, 0o755, 0o444, 0o1755];
const MAX_DEPTH = 3;
const MAX_FILE_BYTES = 150_000;
const MAX_HANDLES = 5;

/** Times that are set lie before this, so that they are told from times of writes. */
const SET_TIME_LIMIT_S = 1_500_000_000;

const WEIGHTS = {
  write: 12,
  append: 6,
  patch: 8,
  truncate: 5,
  read: 8,
  rename: 10,
  unlink: 7,
  mkdir: 7,
  rmdir: 4,
  symlink: 2,
  readlink: 2,
  chmod: 5,
  utimes: 5,
  list: 5,
  stat: 8,
  xattr: 2,
  copy: 2,
  punch: 2,
  openHandle: 5,
  writeHandle: 7,
  readHandle: 5,
  truncateHandle: 2,
  closeHandle: 4,
};

/** What an operation gave: a value, or the name of an error. */
type Outcome = unknown;

interface Pair<T> {
  readonly mounted: T;
  readonly local: T;
}

export class Twin {
  readonly #random: RandomSource;
  readonly #roots: Pair<string>;
  readonly #handles: Pair<FileHandle>[] = [];
  /** What was done, for whoever has to understand a failure. */
  readonly history: string[] = [];

  constructor(random: RandomSource, roots: Pair<string>) {
    this.#random = random;
    this.#roots = roots;
  }

  async step(): Promise<void> {
    const operation = this.#random.weighted(WEIGHTS);
    await this[`_${operation}`]();
  }

  async closeHandles(): Promise<void> {
    while (this.#handles.length > 0) await this._closeHandle();
  }

  /** Both trees hold the same: names, kinds, modes, sizes, contents, targets, and times that were set. */
  async compare(): Promise<void> {
    const [mounted, local] = await Promise.all([describeTree(this.#roots.mounted), describeTree(this.#roots.local)]);
    for (const [path, entry] of local) {
      const other = mounted.get(path);
      if (entry.mtimeS >= SET_TIME_LIMIT_S && other !== undefined)
        mounted.set(path, { ...other, mtimeS: entry.mtimeS });
    }
    expect(Object.fromEntries(mounted)).toEqual(Object.fromEntries(local));
  }

  /** Files of the local tree that a symbolic link does not hide, for changes past the mount. */
  async files(): Promise<string[]> {
    const tree = await describeTree(this.#roots.local);
    return [...tree].filter(([, { kind }]) => kind === 'file').map(([path]) => path);
  }

  async directories(): Promise<string[]> {
    const tree = await describeTree(this.#roots.local);
    return ['', ...[...tree].filter(([, { kind }]) => kind === 'directory').map(([path]) => path)];
  }

  async _write(): Promise<void> {
    const [path, content] = [this.#path(), this.#content()];
    await this.#same(`write ${path} ${content.length}`, (root) => writeFile(join(root, path), content));
  }

  async _append(): Promise<void> {
    const [path, content] = [this.#path(), this.#content(2000)];
    await this.#same(`append ${path} ${content.length}`, (root) => writeFile(join(root, path), content, { flag: 'a' }));
  }

  async _patch(): Promise<void> {
    const [path, content, offset] = [this.#path(), this.#content(5000), this.#random.below(MAX_FILE_BYTES)];
    await this.#same(`patch ${path} ${offset}+${content.length}`, async (root) => {
      const file = await open(join(root, path), 'r+');
      try {
        await file.write(content, 0, content.length, offset);
      } finally {
        await file.close();
      }
    });
  }

  async _truncate(): Promise<void> {
    const [path, size] = [this.#path(), this.#random.below(MAX_FILE_BYTES)];
    await this.#same(`truncate ${path} ${size}`, (root) => truncate(join(root, path), size));
  }

  async _read(): Promise<void> {
    const [path, offset, length] = [this.#path(), this.#random.below(MAX_FILE_BYTES), this.#random.below(20_000)];
    await this.#same(`read ${path} ${offset}+${length}`, async (root) => {
      const file = await open(join(root, path), 'r');
      try {
        const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset);
        return digest(buffer.subarray(0, bytesRead));
      } finally {
        await file.close();
      }
    });
  }

  async _rename(): Promise<void> {
    const [from, to] = [this.#path(), this.#path()];
    await this.#same(`rename ${from} ${to}`, (root) => rename(join(root, from), join(root, to)));
  }

  async _unlink(): Promise<void> {
    const path = this.#path();
    await this.#same(`unlink ${path}`, (root) => unlink(join(root, path)));
  }

  async _mkdir(): Promise<void> {
    const path = this.#path();
    await this.#same(`mkdir ${path}`, (root) => mkdir(join(root, path), { mode: 0o755 }));
  }

  async _rmdir(): Promise<void> {
    const path = this.#path();
    await this.#same(`rmdir ${path}`, (root) => rmdir(join(root, path)));
  }

  async _symlink(): Promise<void> {
    const [path, target] = [this.#path(), this.#random.pick(TARGETS)];
    await this.#same(`symlink ${target} ${path}`, (root) => symlink(target, join(root, path)));
  }

  async _readlink(): Promise<void> {
    const path = this.#path();
    await this.#same(`readlink ${path}`, (root) => readlink(join(root, path)));
  }

  async _chmod(): Promise<void> {
    const [path, mode] = [this.#path(), this.#random.pick(MODES)];
    await this.#same(`chmod ${path} ${mode.toString(8)}`, (root) => chmod(join(root, path), mode));
  }

  async _utimes(): Promise<void> {
    const [path, seconds] = [this.#path(), 1_000_000_000 + this.#random.below(1_000_000)];
    await this.#same(`utimes ${path} ${seconds}`, async (root) => {
      await utimes(join(root, path), seconds, seconds);
      return (await lstat(join(root, path))).mtimeMs === seconds * 1000;
    });
  }

  async _list(): Promise<void> {
    const path = this.#path();
    await this.#same(`list ${path}`, async (root) => (await readdir(join(root, path))).sort());
  }

  async _stat(): Promise<void> {
    const path = this.#path();
    await this.#same(`stat ${path}`, async (root) => {
      const { mode, size } = await lstat(join(root, path));
      return isDirectoryMode(mode) ? mode : { mode, size };
    });
  }

  async _xattr(): Promise<void> {
    const [path, value] = [this.#path(), String(this.#random.below(1000))];
    const call = this.#random.pick([
      `setxattr ${path} user.x ${value} none`,
      `getxattr ${path} user.x`,
      `removexattr ${path} user.x`,
    ]);
    await this.#same(call, (root) => syscalls(root, call));
  }

  async _copy(): Promise<void> {
    const [from, to] = [this.#path(), this.#path()];
    const script = `open 0 ${from} r 0\nopen 1 ${to} rw,creat,trunc 644\ncopyrange 0 0 1 0 1000000\nfstat 1 size`;
    await this.#same(script.replaceAll('\n', '; '), (root) => syscalls(root, script));
  }

  async _punch(): Promise<void> {
    const [path, offset, length] = [this.#path(), this.#random.below(MAX_FILE_BYTES), 1 + this.#random.below(10_000)];
    const script = `open 0 ${path} rw 0\nfallocate 0 ${offset} ${length} ${this.#random.pick(['keep,punch', 'zero', 'none'])}\nfstat 0 size`;
    await this.#same(script.replaceAll('\n', '; '), (root) => syscalls(root, script));
  }

  async _openHandle(): Promise<void> {
    const [path, flags] = [this.#path(), this.#random.pick(['r', 'r+', 'w', 'w+', 'a', 'wx+'])];
    if (this.#handles.length === MAX_HANDLES) return;
    const opened: FileHandle[] = [];
    await this.#same(`open ${path} ${flags}`, async (root) => {
      const handle = await open(join(root, path), flags);
      opened.push(handle);
    });
    const [mounted, local] = opened;
    if (mounted !== undefined && local !== undefined) this.#handles.push({ mounted, local });
  }

  async _writeHandle(): Promise<void> {
    const [content, offset] = [this.#content(5000), this.#random.below(MAX_FILE_BYTES)];
    await this.#withHandle(`write ${offset}+${content.length}`, async (handle) => {
      return (await handle.write(content, 0, content.length, offset)).bytesWritten;
    });
  }

  async _readHandle(): Promise<void> {
    const offset = this.#random.below(MAX_FILE_BYTES);
    await this.#withHandle(`read ${offset}`, async (handle) => {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(10_000), 0, 10_000, offset);
      return [digest(buffer.subarray(0, bytesRead)), (await handle.stat()).size];
    });
  }

  async _truncateHandle(): Promise<void> {
    const size = this.#random.below(MAX_FILE_BYTES);
    await this.#withHandle(`truncate ${size}`, (handle) => handle.truncate(size));
  }

  async _closeHandle(): Promise<void> {
    if (this.#handles.length === 0) return;
    const [pair] = this.#handles.splice(this.#random.below(this.#handles.length), 1);
    if (pair === undefined) return;
    this.history.push('close');
    await pair.local.close();
    await pair.mounted.close();
  }

  async #withHandle(what: string, task: (handle: FileHandle) => Promise<Outcome>): Promise<void> {
    if (this.#handles.length === 0) return;
    const index = this.#random.below(this.#handles.length);
    const pair = this.#handles[index];
    if (pair === undefined) return;
    await this.#equal(
      `handle ${index}: ${what}`,
      () => task(pair.mounted),
      () => task(pair.local),
    );
  }

  #same(what: string, task: (root: string) => Promise<Outcome>): Promise<void> {
    return this.#equal(
      what,
      () => task(this.#roots.mounted),
      () => task(this.#roots.local),
    );
  }

  async #equal(what: string, mounted: () => Promise<Outcome>, local: () => Promise<Outcome>): Promise<void> {
    this.history.push(what);
    const result = await outcome(mounted);
    const expected = await outcome(local);
    this.history.push(`  → ${JSON.stringify(expected)}`);
    expect({ what, result }).toEqual({ what, result: expected });
  }

  #path(): string {
    const depth = 1 + this.#random.below(MAX_DEPTH);
    return Array.from({ length: depth }, () => this.#random.pick(NAMES)).join('/');
  }

  #content(limitBytes = MAX_FILE_BYTES): Buffer {
    return this.#random.bytes(this.#random.below(limitBytes));
  }
}

async function outcome(task: () => Promise<Outcome>): Promise<Outcome> {
  try {
    return await task();
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

interface TreeEntry {
  readonly kind: 'file' | 'directory' | 'symlink';
  readonly mode: number;
  readonly size: number;
  readonly mtimeS: number;
  readonly content: string;
}

/** By path below the root. Sizes and times of directories are not told: no file system promises them. */
async function describeTree(root: string, path = ''): Promise<Map<string, TreeEntry>> {
  const tree = new Map<string, TreeEntry>();
  for (const name of (await readdir(join(root, path))).sort()) {
    const below = path === '' ? name : `${path}/${name}`;
    const { mode, size, mtimeMs } = await lstat(join(root, below));
    const mtimeS = mtimeMs / 1000;
    if (isDirectoryMode(mode)) {
      tree.set(below, { kind: 'directory', mode, size: 0, mtimeS: SET_TIME_LIMIT_S, content: '' });
      for (const entry of await describeTree(root, below)) tree.set(...entry);
    } else if ((mode & 0o170000) === 0o120000) {
      tree.set(below, { kind: 'symlink', mode, size, mtimeS, content: await readlink(join(root, below)) });
    } else {
      tree.set(below, { kind: 'file', mode, size, mtimeS, content: digest(await readFile(join(root, below))) });
    }
  }
  return tree;
}

function isDirectoryMode(mode: number): boolean {
  return (mode & 0o170000) === 0o040000;
}

function digest(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex');
}
