/**
 * Changes a directory of a mount at random until the mount dies: `node crash-load.ts DIRECTORY SEED`, the state to begin with as JSON on
 * standard input. One line when that is what the mount shows, one for each operation that begins and one when it is acknowledged; and what
 * fails otherwise.
 */
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { RandomSource } from './random-source.ts';

/** Path below the directory → SHA-256 of the content; of a directory, with a slash at its end: ''. */
export type State = Readonly<Record<string, string>>;

export type LoadLine =
  /** May become `after`, or, unless it is acknowledged, one of `between`. */
  | { readonly begin: string; readonly after: State; readonly between: readonly State[] }
  | 'started'
  | 'done'
  | { readonly failure: string };

interface Operation {
  readonly what: string;
  readonly run: () => void;
  readonly after: State;
  readonly between?: readonly State[];
}

const NAMES = ['a', 'b', 'c', 'd', 'e', 'f'];
const DIRECTORIES = ['', 'one/', 'two/', 'three/'];
const MAX_BYTES = 60_000;

export function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 16);
}

export function without(state: State, isGone: (key: string) => boolean): State {
  return Object.fromEntries(Object.entries(state).filter(([key]) => !isGone(key)));
}

class Load {
  readonly #root: string;
  readonly #random: RandomSource;
  #state: State;

  constructor(root: string, seed: number, state: State) {
    this.#root = root;
    this.#random = new RandomSource(seed);
    this.#state = state;
  }

  /** What the mount shows must be what the bucket had when the last crash was over. */
  check(): void {
    const found: Record<string, string> = {};
    const walk = (below: string) => {
      for (const entry of readdirSync(join(this.#root, below), { withFileTypes: true })) {
        const key = below + entry.name;
        if (entry.isDirectory()) {
          found[`${key}/`] = '';
          walk(`${key}/`);
        } else {
          found[key] = digest(readFileSync(this.#path(key)));
        }
      }
    };
    walk('');
    const [shown, expected] = [found, this.#state].map((state) => JSON.stringify(Object.entries(state).sort()));
    if (shown !== expected) throw new Error(`the mount shows ${shown}, the bucket had ${expected}`);
  }

  /** False: the mount is dead. */
  step(): boolean {
    for (const operation of this.#next()) {
      const { what, run, after, between = [] } = operation;
      say({ begin: what, after, between });
      run();
      say('done');
      this.#state = after;
    }
    return true;
  }

  #next(): Operation[] {
    const choices = [
      () => this.#write(),
      () => this.#write(),
      () => this.#replace(),
      () => this.#replace(),
      () => this.#append(),
      () => this.#truncate(),
      () => this.#rename(),
      () => this.#rename(),
      () => this.#unlink(),
      () => this.#makeDirectory(),
      () => this.#renameDirectory(),
      () => this.#renameDirectory(),
      () => this.#removeTree(),
    ];
    return this.#random.pick(choices)();
  }

  #write(): Operation[] {
    const key = this.#newKey();
    const bytes = this.#content();
    const isSynced = this.#random.below(4) === 0;
    const run = () => {
      const fd = openSync(this.#path(key), 'w');
      writeSync(fd, bytes);
      if (isSynced) fsyncSync(fd);
      closeSync(fd);
    };
    return [{ what: `write ${key}`, run, after: this.#with(key, bytes), between: [this.#with(key, Buffer.alloc(0))] }];
  }

  /** As programs do that mean it: under another name, then renamed. */
  #replace(): Operation[] {
    const key = this.#newKey();
    const bytes = this.#content();
    const written = { ...this.#state, [`${key}.tmp`]: digest(bytes) };
    return [
      {
        what: `write ${key}.tmp`,
        run: () => writeFileSync(this.#path(`${key}.tmp`), bytes),
        after: written,
        between: [{ ...this.#state, [`${key}.tmp`]: digest(Buffer.alloc(0)) }],
      },
      {
        what: `rename ${key}.tmp ${key}`,
        run: () => renameSync(this.#path(`${key}.tmp`), this.#path(key)),
        after: without(this.#with(key, bytes), (name) => name === `${key}.tmp`),
      },
    ];
  }

  #append(): Operation[] {
    const key = this.#someFile();
    if (key === undefined) return [];
    const bytes = this.#content();
    const whole = Buffer.concat([readFileSync(this.#path(key)), bytes]);
    return [
      { what: `append ${key}`, run: () => appendFileSync(this.#path(key), bytes), after: this.#with(key, whole) },
    ];
  }

  #truncate(): Operation[] {
    const key = this.#someFile();
    if (key === undefined) return [];
    const old = readFileSync(this.#path(key));
    const sizeBytes = this.#random.below(old.length + 1);
    const run = () => truncateSync(this.#path(key), sizeBytes);
    return [{ what: `truncate ${key}`, run, after: this.#with(key, old.subarray(0, sizeBytes)) }];
  }

  #rename(): Operation[] {
    const from = this.#someFile();
    const to = this.#newKey();
    if (from === undefined || from === to) return [];
    const after = { ...without(this.#state, (key) => key === from), [to]: this.#state[from] as string };
    return [{ what: `rename ${from} ${to}`, run: () => renameSync(this.#path(from), this.#path(to)), after }];
  }

  #unlink(): Operation[] {
    const key = this.#someFile();
    return key === undefined ? [] : [this.#unlinkOf(key, this.#state)];
  }

  #makeDirectory(): Operation[] {
    const key = this.#random.pick(DIRECTORIES.filter((name) => name !== ''));
    if (this.#state[key] !== undefined) return [];
    return [{ what: `mkdir ${key}`, run: () => mkdirSync(this.#path(key)), after: { ...this.#state, [key]: '' } }];
  }

  #renameDirectory(): Operation[] {
    const from = this.#someDirectory();
    const to = this.#random.pick(DIRECTORIES.filter((name) => name !== '' && name !== from));
    const isFull = Object.keys(this.#state).some((key) => key.startsWith(to) && key !== to);
    if (from === undefined || isFull) return [];
    const moved = Object.entries(without(this.#state, (key) => key === to)).map(([key, value]) => [
      key.startsWith(from) ? to + key.slice(from.length) : key,
      value,
    ]);
    const run = () => renameSync(this.#path(from.slice(0, -1)), this.#path(to.slice(0, -1)));
    return [{ what: `rename ${from} ${to}`, run, after: Object.fromEntries(moved) as State }];
  }

  /** One after the other, as fast as it goes. */
  #removeTree(): Operation[] {
    const directory = this.#someDirectory();
    if (directory === undefined) return [];
    const operations: Operation[] = [];
    let state = this.#state;
    for (const key of Object.keys(state).filter((name) => name.startsWith(directory) && name !== directory)) {
      const operation = this.#unlinkOf(key, state);
      operations.push(operation);
      state = operation.after;
    }
    const after = without(state, (key) => key === directory);
    return [...operations, { what: `rmdir ${directory}`, run: () => rmdirSync(this.#path(directory)), after }];
  }

  #unlinkOf(key: string, state: State): Operation {
    return {
      what: `unlink ${key}`,
      run: () => unlinkSync(this.#path(key)),
      after: without(state, (name) => name === key),
    };
  }

  #with(key: string, bytes: Uint8Array): State {
    return { ...this.#state, [key]: digest(bytes) };
  }

  #newKey(): string {
    const directories = DIRECTORIES.filter((name) => name === '' || this.#state[name] !== undefined);
    return this.#random.pick(directories) + this.#random.pick(NAMES);
  }

  #someFile(): string | undefined {
    const files = Object.keys(this.#state).filter((key) => !key.endsWith('/'));
    return files.length === 0 ? undefined : this.#random.pick(files);
  }

  #someDirectory(): string | undefined {
    const directories = Object.keys(this.#state).filter((key) => key.endsWith('/'));
    return directories.length === 0 ? undefined : this.#random.pick(directories);
  }

  #content(): Buffer {
    return Buffer.alloc(1 + this.#random.below(MAX_BYTES), `${this.#random.below(1_000_000_000)}\n`);
  }

  #path(key: string): string {
    return join(this.#root, key);
  }
}

function say(line: LoadLine): void {
  writeSync(1, `${JSON.stringify(line)}\n`);
}

/** What system calls say of a mount whose processes are gone. */
function isDead(error: unknown): boolean {
  return ['ENOTCONN', 'ECONNABORTED'].includes((error as NodeJS.ErrnoException).code ?? '');
}

if (import.meta.main) {
  const [, , directory = '', seed = '0'] = process.argv;
  const load = new Load(directory, Number(seed), JSON.parse(readFileSync(0, 'utf8')) as State);
  try {
    load.check();
    say('started');
    while (load.step()) await turn();
  } catch (error) {
    if (!isDead(error)) say({ failure: String(error) });
  }
}
