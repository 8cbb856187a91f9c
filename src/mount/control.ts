/**
 * How the commands talk to the daemon of a mount: a Unix socket that only its owner (and root) can open, one request for each
 * connection, JSON lines. The client sends `{"command", "args"}`; the server answers with any number of
 * `{"progress"}` lines (an empty one every second, as a sign of life), then `{"result"}` or `{"error"}`, and closes.
 */
import { chmod, lstat, mkdir, readdir, unlink } from 'node:fs/promises';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../base/log.ts';
import { MountError, systemCode } from './errors.ts';
import { LineReader } from './line-reader.ts';

/** Resolves with what the client gets. A thrown `MountError` reaches it as its sentence. */
export type ControlHandler = (args: unknown, progress: (value: unknown) => void) => Promise<unknown>;

export interface ControlServer {
  close(): Promise<void>;
}

const MAX_CONNECTIONS = 16;
/** A configuration with the header rules of a large table of MIME types. */
const MAX_REQUEST_BYTES = 1024 * 1024;
const MAX_REPLY_BYTES = 1024 * 1024;
const REQUEST_TIMEOUT_MS = 5000;
const YOUNG_SOCKET_MS = 60_000;
const HEARTBEAT_MS = 1000;
/** Longest silence that a client bears: several heartbeats, or the start of the next worker. */
const SILENCE_MS = 10_000;
/** How long a worker that ended may take to be replaced by one that answers. */
const SUCCESSION_MS = 30_000;
const SUCCESSION_PAUSE_MS = 50;
/** sun_path without its final NUL (unix(7)). */
const MAX_PATH_BYTES = 107;

/** Makes sure that a socket can be made at the path. Rejects with a `MountError` when it cannot, or when a daemon listens there. */
export async function prepareControl(path: string): Promise<void> {
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new MountError(`The path of the control socket is too long: ${path}.`);
  }
  await makePrivateDirectory(dirname(path));
  await removeStaleSocket(path);
  await removeOldSockets(dirname(path));
}

/** Serves a socket that listens already (a descriptor), or makes it (a path). */
export async function serveControl(
  place: string | number,
  handlers: Readonly<Record<string, ControlHandler>>,
  log: Logger,
): Promise<ControlServer> {
  if (typeof place === 'string') await prepareControl(place);
  const connections = new Set<Socket>();
  const server = createServer((socket) => {
    connections.add(socket);
    socket.once('close', () => connections.delete(socket));
    // The client went away: nobody is left to be told.
    socket.on('error', (error) => log.debug({ error }, 'control connection broke'));
    serveConnection(socket, handlers, log);
  });
  server.maxConnections = MAX_CONNECTIONS;
  await listen(server, place);
  if (typeof place === 'string') await chmod(place, 0o600);
  return {
    close: () =>
      new Promise((resolve) => {
        // Replies that were written are still sent.
        for (const socket of connections) socket.destroySoon();
        server.close(() => resolve());
      }),
  };
}

/** Others must not be able to put a socket of their own there. */
async function makePrivateDirectory(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const stat = await lstat(directory);
  if (!stat.isDirectory() || stat.uid !== process.getuid?.() || (stat.mode & 0o077) !== 0) {
    throw new MountError(
      `The directory ${directory} must belong to the user who mounts and be closed to others (0700).`,
    );
  }
}

async function removeStaleSocket(path: string): Promise<void> {
  if (await isServed(path)) throw new MountError(`Another tsfs daemon answers at ${path}.`);
  await unlink(path).catch((error: unknown) => {
    if (systemCode(error) !== 'ENOENT') throw error;
  });
}

/** Of daemons that were killed. One that is young may be about to be listened to. */
async function removeOldSockets(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!name.endsWith('.sock')) continue;
    const path = join(directory, name);
    try {
      const { mtimeMs } = await lstat(path);
      if (Date.now() - mtimeMs > YOUNG_SOCKET_MS && !(await isServed(path))) await unlink(path);
    } catch {
      // Somebody else took it away, or whoever listens is too busy to answer.
    }
  }
}

/** Whether a process listens there. */
export async function isServed(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error) => {
      if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ECONNREFUSED') resolve(false);
      else reject(error);
    });
  });
}

function listen(server: Server, place: string | number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(typeof place === 'string' ? { path: place } : { fd: place }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function serveConnection(socket: Socket, handlers: Readonly<Record<string, ControlHandler>>, log: Logger): void {
  const send = (message: object) => {
    if (socket.writable) socket.write(`${JSON.stringify(message)}\n`);
  };
  const lines = new LineReader(MAX_REQUEST_BYTES);
  const impatience = setTimeout(() => socket.destroy(), REQUEST_TIMEOUT_MS);
  const stopWaiting = () => clearTimeout(impatience);
  socket.once('close', stopWaiting);
  socket.on('data', (chunk) => {
    const [line] = lines.push(chunk) ?? [''];
    if (line === undefined) return;
    stopWaiting();
    // One request only: whatever else comes is not looked at.
    socket.removeAllListeners('data').resume();
    const heartbeat = setInterval(() => send({ progress: null }), HEARTBEAT_MS);
    answer(line, handlers, log, send).finally(() => {
      clearInterval(heartbeat);
      socket.end();
    });
  });
}

async function answer(
  line: string,
  handlers: Readonly<Record<string, ControlHandler>>,
  log: Logger,
  send: (message: object) => void,
): Promise<void> {
  const request = parseRequest(line);
  const handler = request && Object.hasOwn(handlers, request.command) ? handlers[request.command] : undefined;
  if (request === undefined || handler === undefined) {
    send({ error: 'The daemon does not know this command.' });
    return;
  }
  try {
    const result = await handler(request.args, (value) => send({ progress: value }));
    send({ result: result ?? null });
  } catch (error) {
    log.error({ error, command: request.command }, 'control command failed');
    send({ error: error instanceof MountError ? error.sentence : `The daemon failed: ${String(error)}` });
  }
}

function parseRequest(line: string): { command: string; args: unknown } | undefined {
  const value = parseJson(line) as { command?: unknown; args?: unknown } | null | undefined;
  return typeof value?.command === 'string' ? { command: value.command, args: value.args } : undefined;
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** Nobody listens: the daemon has ended, or was never there. */
export class NoDaemonError extends Error {
  constructor(path: string, cause?: unknown) {
    super(`no daemon at ${path}`, { cause });
    this.name = 'NoDaemonError';
  }
}

/** The daemon ended while it was asked. Another worker may go on with its mount. */
export class BrokenOffError extends MountError {
  constructor() {
    super('The tsfs daemon ended before it answered.');
  }
}

/** `callControl`, but a worker that ends before it has answered does not matter: the next one is asked. For what may be done twice. */
export async function askControl(
  path: string,
  command: string,
  onProgress?: (value: unknown) => void,
): Promise<unknown> {
  const untilMs = performance.now() + SUCCESSION_MS;
  for (;;) {
    try {
      return await callControl(path, command, null, onProgress);
    } catch (error) {
      if (!(error instanceof BrokenOffError) || performance.now() > untilMs) throw error;
    }
    await sleep(SUCCESSION_PAUSE_MS);
  }
}

/**
 * Sends one command and resolves with its result. Rejects with `NoDaemonError`, or with a `MountError` when the daemon refuses,
 * breaks off, or is silent for ten seconds. A command may take any time as long as the daemon gives signs of life.
 */
export function callControl(
  path: string,
  command: string,
  args: unknown = null,
  onProgress: (value: unknown) => void = () => {},
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    const lines = new LineReader(MAX_REPLY_BYTES);
    const fail = (error: Error) => {
      socket.destroy();
      reject(error);
    };
    socket.setTimeout(SILENCE_MS, () => fail(new MountError('The tsfs daemon does not answer.')));
    socket.once('connect', () => socket.write(`${JSON.stringify({ command, args })}\n`));
    socket.once('error', (error) => {
      const code = systemCode(error);
      if (code === 'ENOENT' || code === 'ECONNREFUSED') fail(new NoDaemonError(path, error));
      else if (code === 'ECONNRESET' || code === 'EPIPE') fail(new BrokenOffError());
      else fail(new MountError(`The tsfs daemon cannot be asked (${code ?? 'unknown reason'}).`));
    });
    socket.once('close', () => reject(new BrokenOffError()));
    socket.on('data', (chunk) => {
      const messages = lines.push(chunk);
      if (messages === undefined) fail(new MountError('The tsfs daemon sent an answer that is too long.'));
      for (const line of messages ?? []) {
        const message = parseJson(line) as { progress?: unknown; result?: unknown; error?: unknown } | undefined;
        if (message?.progress != null) onProgress(message.progress);
        if (typeof message?.error === 'string') fail(new MountError(message.error));
        if (message?.result !== undefined) {
          resolve(message.result);
          socket.destroy();
        }
      }
    });
  });
}
