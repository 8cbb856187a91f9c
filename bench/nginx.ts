/** An nginx that serves one directory, and wrk that asks it: a core for each. */
import { mkdir, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Background, run } from '../scripts/lib/programs.ts';

const READY_LIMIT_MS = 10_000;
const POLL_MS = 20;
const WRK_GRACE_MS = 30_000;

/** Below this path the same files again, which nginx holds open and looks at once a minute (`open_file_cache`). */
export const HELD_OPEN = '/held-open';

export interface WebServer {
  readonly url: string;
  stop(): Promise<void>;
}

/** `directory`: for its own files. */
export async function startNginx(root: string, directory: string): Promise<WebServer> {
  const port = await freePort();
  await mkdir(join(directory, 'logs'), { recursive: true });
  const config = join(directory, 'nginx.conf');
  await writeFile(config, configuration(root, directory, port));
  const nginx = new Background('nginx', ['-p', directory, '-c', config, '-e', 'stderr'], process.env);
  const url = `http://127.0.0.1:${port}`;
  const deadlineMs = performance.now() + READY_LIMIT_MS;
  while (
    !(await fetch(url).then(
      (answer) => answer.text().then(() => true),
      () => false,
    ))
  ) {
    if (nginx.hasEnded || performance.now() > deadlineMs) {
      await nginx.stop();
      throw new Error(`nginx did not start: ${nginx.output}`);
    }
    await sleep(POLL_MS);
  }
  return { url, stop: () => nginx.stop() };
}

/** Mounts belong to who made them: the worker must be the same user. */
function configuration(root: string, directory: string, port: number): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  return `${process.getuid?.() === 0 ? 'user root;' : ''}
daemon off;
worker_processes 1;
pid ${directory}/nginx.pid;
error_log stderr;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  open_file_cache off;
  keepalive_requests 1000000;
${temporary.map((name) => `  ${name}_temp_path ${directory}/${name};`).join('\n')}
  server {
    listen 127.0.0.1:${port};
    root ${root};
    location = / { return 204; }
    location ${HELD_OPEN}/ {
      alias ${root}/;
      open_file_cache max=10000;
    }
  }
}
`;
}

export interface LoadOptions {
  readonly script: string;
  readonly connections: number;
  readonly durationMs: number;
  readonly signal: AbortSignal;
}

/** A script for wrk that asks for `images/0.jpg` below a path, and those that follow, in turn. */
export function imageScript(files: number, path: string): string {
  return `local i = -1
request = function()
  i = (i + 1) % ${files}
  return wrk.format("GET", "${path}/images/" .. i .. ".jpg")
end
`;
}

/** Requests each second. Rejects when an answer is not what was asked for. */
export async function requestsPerSecond(url: string, options: LoadOptions): Promise<number> {
  const { script, connections, durationMs, signal } = options;
  const seconds = `${Math.max(1, Math.round(durationMs / 1000))}s`;
  const args = ['-t', '1', '-c', String(connections), '-d', seconds, '-s', script, url];
  const { stdout } = await run('wrk', args, { limitMs: durationMs + WRK_GRACE_MS, signal });
  const failure = /^\s*(Non-2xx.*|Socket errors.*)$/m.exec(stdout)?.[1];
  if (failure !== undefined) throw new Error(`wrk: ${failure}`);
  return Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
