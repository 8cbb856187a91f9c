/**
 * The load of the fault soak, as a process of its own: actors that write, append, rename, delete and read, each in a directory of its own, and
 * know what every file may contain. A call that fails may have either outcome, and its names are left alone from then on.
 * `node soak-load.ts write DIRECTORY ACTORS` until SIGTERM, then one line of JSON, a `SoakReport`.
 * `node soak-load.ts read DIRECTORY` reads what others write, in another mount: whole records, whatever version it meets.
 */
import { appendFile, mkdir, open, readdir, readFile, rename, rmdir, unlink, writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isWhole, record } from './soak-record.ts';

export interface SoakReport {
  readonly calls: number;
  /** Calls that failed, by their error; all of them are ones that a store in trouble excuses. */
  readonly errors: Readonly<Record<string, number>>;
  /** Calls that took too long, wrong content, errors without excuse. */
  readonly wrong: readonly string[];
  /** Path below the directory → contents that it may have, in base64 of their SHA-256; null: it may be absent. */
  readonly files: Readonly<Record<string, readonly (string | null)[]>>;
}

/** No call may take longer: a few requests, each with its retries. */
const CALL_LIMIT_MS = 90_000;
const EXCUSED = ['EIO', 'ETIMEDOUT', 'EAGAIN'];
const NAMES = 10;
const MAX_WRONG = 20;
const MAX_KNOWN = 2000;

const [, , kind = '', root = '', actors = '1'] = process.argv;
const errors: Record<string, number> = {};
const wrong: string[] = [];
const files: Record<string, (Buffer | null)[]> = {};
let calls = 0;
let isOver = false;
let serial = 0;

function blame(text: string): void {
  if (wrong.length < MAX_WRONG) wrong.push(text);
}

function below<T>(list: readonly T[]): T {
  return list[Math.floor(Math.random() * list.length)] as T;
}

/** Resolves with the error of a call that failed for an excusable reason. */
async function attempt(what: string, call: () => Promise<unknown>): Promise<Error | undefined> {
  calls += 1;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`took more than ${CALL_LIMIT_MS} ms`)), CALL_LIMIT_MS);
  });
  try {
    await Promise.race([call(), late]);
    return undefined;
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (EXCUSED.includes(code)) errors[code] = (errors[code] ?? 0) + 1;
    else blame(`${what}: ${String(error)}`);
    return error as Error;
  } finally {
    clearTimeout(timer);
  }
}

class Actor {
  readonly #directory: string;
  readonly #known = new Map<string, Buffer>();
  #names: string[];

  constructor(name: string) {
    this.#directory = name;
    this.#names = Array.from({ length: NAMES }, () => this.#freshName());
  }

  async run(): Promise<void> {
    await mkdir(join(root, this.#directory));
    while (!isOver) {
      await below([
        this.#write,
        this.#pieces,
        this.#replace,
        this.#append,
        this.#move,
        this.#remove,
        this.#read,
        this.#list,
      ]).call(this);
    }
    for (const [name, bytes] of this.#known) files[`${this.#directory}/${name}`] = [bytes];
  }

  #freshName(): string {
    serial += 1;
    return `file ${serial}`;
  }

  #path(name: string): string {
    return join(root, this.#directory, name);
  }

  #content(): Buffer {
    serial += 1;
    return record(serial, Math.random() < 0.05 ? 3_000_000 : 1 + Math.floor(Math.random() ** 3 * 200_000));
  }

  /** The name is not used any more: what it has is one of these. */
  #giveUp(name: string, possible: readonly (Buffer | undefined)[]): void {
    files[`${this.#directory}/${name}`] = possible.map((bytes) => bytes ?? null);
    this.#known.delete(name);
    this.#names = this.#names.map((other) => (other === name ? this.#freshName() : other));
    if (Object.keys(files).length > MAX_KNOWN) blame('too many calls fail');
  }

  async #write(): Promise<void> {
    const name = below(this.#names);
    const [before, bytes] = [this.#known.get(name), this.#content()];
    const error = await attempt(`write ${name}`, () => writeFile(this.#path(name), bytes));
    // Truncated, or cut where the call ended.
    if (error === undefined) this.#known.set(name, bytes);
    else this.#giveUp(name, [before, Buffer.alloc(0), bytes]);
  }

  /** In several calls, so that the file is open while requests fail and workers die. */
  async #pieces(): Promise<void> {
    const name = below(this.#names);
    const [before, bytes] = [this.#known.get(name), this.#content()];
    const pieceBytes = Math.ceil(bytes.length / 5);
    const error = await attempt(`write ${name} in pieces`, async () => {
      const file = await open(this.#path(name), 'w');
      try {
        for (let at = 0; at < bytes.length; at += pieceBytes) {
          await file.write(bytes, at, Math.min(pieceBytes, bytes.length - at), at);
          await sleep(5);
        }
        if (Math.random() < 0.5) await file.sync();
      } finally {
        await file.close();
      }
    });
    if (error === undefined) this.#known.set(name, bytes);
    else {
      const cuts = [1, 2, 3, 4].map((pieces) => bytes.subarray(0, pieces * pieceBytes));
      this.#giveUp(name, [before, Buffer.alloc(0), ...cuts, bytes]);
    }
  }

  async #replace(): Promise<void> {
    const name = below(this.#names);
    const temporary = this.#freshName();
    const [before, bytes] = [this.#known.get(name), this.#content()];
    const failed = await attempt(`write ${temporary}`, () => writeFile(this.#path(temporary), bytes));
    if (failed !== undefined) return this.#giveUp(temporary, [undefined, Buffer.alloc(0), bytes]);
    if ((await attempt(`rename to ${name}`, () => rename(this.#path(temporary), this.#path(name)))) === undefined) {
      this.#known.set(name, bytes);
      return;
    }
    this.#giveUp(temporary, [undefined, bytes]);
    this.#giveUp(name, [before, bytes]);
  }

  async #append(): Promise<void> {
    const name = below(this.#names);
    const before = this.#known.get(name);
    if (before === undefined || before.length > 1_000_000) return;
    const after = Buffer.concat([before, this.#content()]);
    const error = await attempt(`append to ${name}`, () => appendFile(this.#path(name), after.subarray(before.length)));
    if (error === undefined) this.#known.set(name, after);
    else this.#giveUp(name, [before, after]);
  }

  async #move(): Promise<void> {
    const [from, to] = [below(this.#names), below(this.#names)];
    const [bytes, before] = [this.#known.get(from), this.#known.get(to)];
    if (bytes === undefined || from === to) return;
    if ((await attempt(`rename ${from} to ${to}`, () => rename(this.#path(from), this.#path(to)))) === undefined) {
      this.#known.set(to, bytes);
      this.#known.delete(from);
      return;
    }
    this.#giveUp(from, [bytes, undefined]);
    this.#giveUp(to, [before, bytes]);
  }

  async #remove(): Promise<void> {
    const name = below(this.#names);
    const before = this.#known.get(name);
    if (before === undefined) return;
    const error = await attempt(`unlink ${name}`, () => unlink(this.#path(name)));
    if (error === undefined) this.#known.delete(name);
    else this.#giveUp(name, [before, undefined]);
  }

  async #read(): Promise<void> {
    const name = below(this.#names);
    const expected = this.#known.get(name);
    if (expected === undefined) return;
    await attempt(`read ${name}`, async () => {
      const found = await readFile(this.#path(name));
      if (!found.equals(expected)) throw new Error(`${found.length} wrong bytes, expected ${expected.length}`);
    });
  }

  async #list(): Promise<void> {
    await attempt('list', async () => {
      const found = new Set(await readdir(join(root, this.#directory)));
      const lost = [...this.#known.keys()].filter((name) => !found.has(name));
      if (lost.length > 0) throw new Error(`not listed: ${lost}`);
    });
    // Directories are renamed as a whole. A name is used once: what failed may have happened.
    serial += 1;
    const [first, second] = [this.#path(`sub ${serial}`), this.#path(`moved ${serial}`)];
    const failed = await attempt('directories', async () => {
      await mkdir(first);
      await writeFile(join(first, 'file'), record(1, 1000));
      await rename(first, second);
      await unlink(join(second, 'file'));
      await rmdir(second);
    });
    const [before, after] = [first, second].map((path) => path.slice(root.length + 1));
    if (failed !== undefined)
      for (const path of [before, after]) files[`${path}/file`] = [null, Buffer.alloc(0), record(1, 1000)];
  }
}

async function readOthers(): Promise<void> {
  while (!isOver) {
    await attempt('list all', async () => {
      for (const directory of await readdir(root)) {
        const names = await readdir(join(root, directory)).catch(() => []);
        for (const name of names.filter((name) => name.startsWith('file')))
          await readOther(join(root, directory, name));
      }
    });
    await sleep(200);
  }
}

/** Files may go away, or be replaced, between their listing and the end of their reading. */
async function readOther(path: string): Promise<void> {
  if (isOver) return;
  calls += 1;
  try {
    const bytes = await readFile(path);
    if (!isWhole(bytes)) blame(`${path}: ${bytes.length} bytes that nobody wrote`);
  } catch (error) {
    const { errno, code = String(error) } = error as NodeJS.ErrnoException;
    // Node has no name for ESTALE: the version that is open has been replaced, and was not all here.
    if (![...EXCUSED, 'ENOENT'].includes(code) && errno !== -constants.errno.ESTALE)
      blame(`read ${path}: ${String(error)}`);
    errors[code] = (errors[code] ?? 0) + 1;
  }
}

process.on('SIGTERM', () => {
  isOver = true;
});
process.stdout.write('started\n');
if (kind === 'read') await readOthers();
else await Promise.all(Array.from({ length: Number(actors) }, (_, index) => new Actor(`actor ${index}`).run()));
const { createHash } = await import('node:crypto');
const digest = (bytes: Buffer | null) => bytes && createHash('sha256').update(bytes).digest('base64');
const described = Object.fromEntries(Object.entries(files).map(([path, possible]) => [path, possible.map(digest)]));
process.stdout.write(`${JSON.stringify({ calls, errors, wrong, files: described } satisfies SoakReport)}\n`);
