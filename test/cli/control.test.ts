import { chmod, link, mkdir, mkdtemp, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { createConnection, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLogger } from '../../src/base/log.ts';
import {
  type ControlHandler,
  type ControlServer,
  callControl,
  isServed,
  NoDaemonError,
  prepareControl,
  serveControl,
} from '../../src/mount/control.ts';
import { MountError } from '../../src/mount/errors.ts';

const HANDLERS: Readonly<Record<string, ControlHandler>> = {
  echo: async (args) => args,
  nothing: async () => undefined,
  steps: async (_args, progress) => {
    for (const left of [2, 1, 0]) progress({ left });
    return 'done';
  },
  slow: async () => {
    await new Promise((resume) => setTimeout(resume, 2500));
    return 'late';
  },
  refuse: async () => {
    throw new MountError('It cannot be done.');
  },
  broken: async () => {
    throw new TypeError('a defect');
  },
  never: () => new Promise(() => {}),
};

let directory: string;
let path: string;
let server: ControlServer | undefined;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tsfs-control-'));
  path = join(directory, 'run', 'photos.sock');
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  await rm(directory, { recursive: true, force: true });
});

async function serve(): Promise<void> {
  server = await serveControl(path, HANDLERS, silentLogger);
}

/** Everything the server says to these bytes, until it closes. */
function raw(bytes: string | Uint8Array): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = createConnection(path, () => socket.write(bytes));
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('close', () => resolve(text));
    socket.on('error', reject);
  });
}

describe('commands', () => {
  beforeEach(serve);

  it('get their arguments and give their result', async () => {
    expect(await callControl(path, 'echo', { text: 'ü\n"' })).toEqual({ text: 'ü\n"' });
    expect(await callControl(path, 'nothing')).toBeNull();
    const large = 'x'.repeat(10_000);
    expect(await callControl(path, 'echo', large)).toBe(large);
  });

  it('report progress, and are alive while they have none', async () => {
    const seen: unknown[] = [];
    expect(await callControl(path, 'steps', null, (value) => seen.push(value))).toBe('done');
    expect(seen).toEqual([{ left: 2 }, { left: 1 }, { left: 0 }]);
    expect(await callControl(path, 'slow', null, (value) => seen.push(value))).toBe('late');
    expect(seen).toHaveLength(3);
  });

  it('fail with a sentence', async () => {
    await expect(callControl(path, 'refuse')).rejects.toEqual(new MountError('It cannot be done.'));
    await expect(callControl(path, 'broken')).rejects.toThrow('a defect');
    await expect(callControl(path, 'constructor')).rejects.toThrow('does not know this command');
  });

  it('serve several clients at once', async () => {
    const calls = Array.from({ length: 12 }, (_, number) => callControl(path, 'echo', number));
    expect(await Promise.all(calls)).toEqual(Array.from({ length: 12 }, (_, number) => number));
  });
});

describe('the server', () => {
  it('lets only its owner in', async () => {
    await serve();
    expect((await stat(dirname(path))).mode & 0o777).toBe(0o700);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
  });

  it('refuses a directory that others can enter', async () => {
    await mkdir(dirname(path));
    await chmod(dirname(path), 0o755);
    await expect(serve()).rejects.toThrow('closed to others (0700)');
  });

  it('takes the place of one that crashed, but not of a living one', async () => {
    await mkdir(dirname(path), { mode: 0o700 });
    await writeFile(path, '');
    await expect(isServed(path)).resolves.toBe(false);
    await serve();
    await expect(isServed(path)).resolves.toBe(true);
    await expect(serveControl(path, HANDLERS, silentLogger)).rejects.toThrow('Another tsfs daemon');
  });

  it('clears sockets away that nobody listens to, unless they are young', async () => {
    await serve();
    const run = dirname(path);
    const paths = ['old', 'young', 'served'].map((name) => join(run, `${name}.sock`));
    const others = await Promise.all(paths.map((each) => serveControl(each, HANDLERS, silentLogger)));
    const minuteAgo = new Date(Date.now() - 120_000);
    // What a daemon leaves that is killed: the name, and nobody behind it.
    for (const each of paths.slice(0, 2)) await link(each, `${each}.kept`);
    for (const each of others.slice(0, 2)) await each.close();
    for (const each of paths.slice(0, 2)) await rename(`${each}.kept`, each);
    for (const each of [paths[0], paths[2]]) await utimes(each as string, minuteAgo, minuteAgo);
    await prepareControl(join(run, 'new.sock'));
    expect((await readdir(run)).sort()).toEqual(['photos.sock', 'served.sock', 'young.sock']);
    await others[2]?.close();
  });

  it('answers nonsense with an error, and bounds what it reads', async () => {
    await serve();
    for (const bytes of ['nonsense\n', '[]\n', 'null\n', '{"command":1}\n', '\n', new Uint8Array([0xff, 0x0a])]) {
      expect(await raw(bytes)).toContain('does not know this command');
    }
    expect(await raw('x'.repeat(2_000_000))).toContain('does not know this command');
    expect(await callControl(path, 'echo', 1)).toBe(1);
  });

  it('closes with a command under way', async () => {
    await serve();
    const call = callControl(path, 'never');
    const failure = expect(call).rejects.toThrow('ended before it answered');
    await callControl(path, 'echo', 1);
    await server?.close();
    await failure;
    expect(await isServed(path)).toBe(false);
  });

  it('refuses a path that no socket can have', async () => {
    path = join(directory, 'x'.repeat(120));
    await expect(serve()).rejects.toThrow('too long');
  });
});

describe('the client', () => {
  it('tells a daemon that is not there from one that is broken', async () => {
    await expect(callControl(path, 'status')).rejects.toBeInstanceOf(NoDaemonError);
    const sockets: Socket[] = [];
    await mkdir(dirname(path));
    const broken = createServer((socket) => {
      sockets.push(socket);
      socket.on('error', () => {}).write(`{"result`);
      socket.end();
    });
    await new Promise<void>((resolve) => broken.listen(path, resolve));
    await expect(callControl(path, 'status')).rejects.toThrow('ended before it answered');
    // Nobody reads the request, so that these never see their end by themselves.
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => broken.close(resolve));
  });

  it('bounds the answer', async () => {
    await mkdir(dirname(path));
    const endless = createServer((socket) => {
      socket.on('error', () => {}).write('x'.repeat(2 * 1024 * 1024));
    });
    await new Promise<void>((resolve) => endless.listen(path, resolve));
    await expect(callControl(path, 'status')).rejects.toThrow('too long');
    await new Promise((resolve) => endless.close(resolve));
  });
});
