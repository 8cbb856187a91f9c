/**
 * A one-node Ceph RGW on loopback: a monitor, one OSD in memory and the gateway. Real SigV4, atomic writes, the same
 * software as DigitalOcean Spaces, Linode and Vultr. For tests, the demo and benchmarks; also a command:
 *
 *     node test/support/rgw.ts [--port P] [--dir DIR]      (runs until SIGINT; first line of output is JSON)
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { closeSync, openSync, rmSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs, promisify } from 'node:util';

export interface Rgw {
  /** `http://127.0.0.1:PORT`, for path-style requests; virtual-host style as `BUCKET.localhost:PORT`. */
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Ends the daemons and removes the directory. May be called more than once. */
  stop(): Promise<void>;
}

export interface RgwOptions {
  /** Parent of the directory that holds everything; the system's temporary directory by default. */
  readonly dir?: string;
  /** Port of the gateway; a free one by default. */
  readonly port?: number;
  /** Bound of the object data, which lives in memory. Default 8 GiB. */
  readonly capacityBytes?: number;
}

const ACCESS_KEY_ID = 'TSFSTESTACCESSKEY000';
const SECRET_ACCESS_KEY = 'tsfs-test-secret-key-0000000000000000000';
const READY_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 5_000;
const COMMAND_TIMEOUT_MS = 30_000;

const execute = promisify(execFile);

/** Starts a gateway; resolves when it answers S3 requests (about a second). Rejects with the tail of the logs. */
export async function startRgw(options: RgwOptions = {}): Promise<Rgw> {
  const dir = await mkdtemp(join(options.dir ?? tmpdir(), 'tsfs-rgw-'));
  const [v2, v1, free] = await freePorts(3);
  const port = options.port ?? free;
  const daemons: ChildProcess[] = [];
  let stopping: Promise<void> | undefined;
  const onExit = () => {
    for (const daemon of daemons) daemon.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  };
  const stop = () => {
    stopping ??= stopDaemons(daemons).then(async () => {
      process.off('exit', onExit);
      await rm(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
    });
    return stopping;
  };
  process.once('exit', onExit);
  try {
    await startDaemons(dir, { v2, v1, port, capacityBytes: options.capacityBytes ?? 8 * 2 ** 30 }, daemons);
  } catch (error) {
    const logs = await logTails(dir);
    await stop();
    throw new Error(`Ceph RGW did not start: ${(error as Error).message}\n${logs}`, { cause: error });
  }
  return {
    endpoint: `http://127.0.0.1:${port}`,
    accessKeyId: ACCESS_KEY_ID,
    secretAccessKey: SECRET_ACCESS_KEY,
    stop,
  };
}

interface Layout {
  readonly v2: number;
  readonly v1: number;
  readonly port: number;
  readonly capacityBytes: number;
}

async function startDaemons(dir: string, layout: Layout, daemons: ChildProcess[]): Promise<void> {
  const fsid = randomUUID();
  const osdUuid = randomUUID();
  const conf = join(dir, 'ceph.conf');
  const monmap = join(dir, 'monmap');
  const common = ['-c', conf, '--no-mon-config'];
  const monAddress = `[v2:127.0.0.1:${layout.v2},v1:127.0.0.1:${layout.v1}]`;
  await writeFile(conf, cephConf(dir, fsid, monAddress, layout));
  await Promise.all(['mon', 'osd', 'log', 'run', 'crash'].map((name) => mkdir(join(dir, name))));
  await execute('monmaptool', ['--create', '--fsid', fsid, '--addv', 'a', monAddress, monmap]);
  await run('ceph-mon', ['--mkfs', '-i', 'a', '--monmap', monmap, '-c', conf]);
  daemons.push(startDaemon('ceph-mon', ['-f', '-i', 'a', '-c', conf], dir));
  await Promise.all([
    run('ceph', ['-c', conf, '--connect-timeout', '20', 'osd', 'new', osdUuid, '0']),
    run('ceph-osd', ['--mkfs', '-i', '0', '--osd-uuid', osdUuid, ...common]),
  ]);
  daemons.push(startDaemon('ceph-osd', ['-f', '-i', '0', ...common], dir));
  const user = ['user', 'create', '--uid=tsfs', '--display-name=tsfs', '--access-key', ACCESS_KEY_ID];
  // The secret is a constant of this file, so that it may stand in argv.
  await run('radosgw-admin', [...user, '--secret', SECRET_ACCESS_KEY, '-n', 'client.admin', ...common]);
  const gateway = startDaemon('radosgw', ['-f', '-n', 'client.rgw', ...common], dir);
  daemons.push(gateway);
  await answers(layout.port, gateway);
}

function cephConf(dir: string, fsid: string, monAddress: string, layout: Layout): string {
  return `[global]
fsid = ${fsid}
mon host = ${monAddress}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
keyring = /dev/null
log file = ${dir}/log/$name.log
log to stderr = false
run dir = ${dir}/run
admin socket =
crash dir = ${dir}/crash
pid file =
mon data = ${dir}/mon/$id
osd data = ${dir}/osd
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon allow pool delete = true
mon max pg per osd = 1000
paxos propose interval = 0.02
paxos min wait = 0.01
osd objectstore = memstore
memstore device bytes = ${layout.capacityBytes}
osd class update on start = false
osd fast shutdown = false
rgw frontends = beast endpoint=127.0.0.1:${layout.port} tcp_nodelay=1
rgw dns name = localhost
rgw gc obj min wait = 10
rgw gc processor period = 10
rgw crypt require ssl = false
rgw enable usage log = false
rgw enable ops log = false
debug ms = 0
debug rgw = 1
`;
}

function startDaemon(program: string, args: readonly string[], dir: string): ChildProcess {
  const output = openSync(join(dir, 'log', `${program}.out`), 'a');
  // The kernel ends the daemon when this process dies, however it dies.
  const daemon = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], { stdio: ['ignore', output, output] });
  closeSync(output);
  daemon.on('error', () => daemon.emit('exit', 127, null));
  return daemon;
}

async function run(program: string, args: readonly string[]): Promise<void> {
  await execute(program, [...args], { timeout: COMMAND_TIMEOUT_MS, killSignal: 'SIGKILL' });
}

/** Resolves when the gateway answers HTTP with anything but "not yet". */
async function answers(port: number, gateway: ChildProcess): Promise<void> {
  const deadlineMs = performance.now() + READY_TIMEOUT_MS;
  while (performance.now() < deadlineMs) {
    if (gateway.exitCode !== null) throw new Error(`radosgw ended with status ${gateway.exitCode}`);
    const status = await new Promise<number>((resolve) => {
      const probe = request({ host: '127.0.0.1', port, timeout: 1000, agent: false }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      });
      probe.on('timeout', () => probe.destroy());
      probe.on('error', () => resolve(0));
      probe.end();
    });
    if (status >= 200 && status < 500) return;
    await sleep(10);
  }
  throw new Error(`radosgw does not answer on port ${port}`);
}

/** The gateway first: it talks to the others while it ends. The data is in memory, so nothing needs a clean end. */
async function stopDaemons(daemons: readonly ChildProcess[]): Promise<void> {
  for (const daemon of daemons.toReversed()) {
    if (daemon.exitCode !== null || daemon.signalCode !== null || daemon.pid === undefined) continue;
    const ended = new Promise((resolve) => daemon.once('exit', resolve));
    daemon.kill('SIGKILL');
    await Promise.race([ended, sleep(STOP_TIMEOUT_MS, undefined, { ref: false })]);
  }
}

async function logTails(dir: string): Promise<string> {
  const logs = join(dir, 'log');
  const names = await readdir(logs).catch(() => []);
  const tails = names.map(async (name) => {
    const text = await readFile(join(logs, name), 'utf8');
    return text === '' ? '' : `--- ${name}\n${text.split('\n').slice(-15).join('\n')}`;
  });
  return (await Promise.all(tails)).join('');
}

/** Ports that are free now. Held open together, so that they differ. */
async function freePorts(count: 3): Promise<[number, number, number]>;
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = servers.map(
    (server) =>
      new Promise<number>((resolve, reject) => {
        server.once('error', reject);
        server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port));
      }),
  );
  const found = await Promise.all(ports);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return found;
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { port: { type: 'string' }, dir: { type: 'string' } } });
  const rgw = await startRgw({
    ...(values.port === undefined ? {} : { port: Number(values.port) }),
    ...(values.dir === undefined ? {} : { dir: values.dir }),
  });
  const { endpoint, accessKeyId, secretAccessKey } = rgw;
  process.stdout.write(`${JSON.stringify({ endpoint, accessKeyId, secretAccessKey })}\n`);
  const keepAlive = setInterval(() => {}, 2 ** 30);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      clearInterval(keepAlive);
      void rgw.stop();
    });
  }
}
