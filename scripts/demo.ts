/** `npm run demo`: a bucket of images, mounted, with times and request counts; then the visitor's turn, until Ctrl-C. */
import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { MountStatus } from '../src/mount/status.ts';
import { type DemoBucket, type DemoContext, openLocalBucket, openProviderBucket } from './demo/buckets.ts';
import { makeImages } from './demo/images.ts';
import { HEADER, type RequestCounts, takeTour } from './demo/tour.ts';
import { clearPrefix, type Files, fillBucket } from './lib/fill.ts';
import { isMounted, unmount } from './lib/mounts.ts';
import { run } from './lib/programs.ts';
import { formatTable } from './lib/table.ts';

const HELP = `npm run demo [-- OPTIONS]

Starts an object store on this machine, mounts a bucket of it, shows what that costs and leaves it to you until Ctrl-C.

  --once            end after the table; so it does where there is no terminal
  --bucket NAME     use this bucket of a real provider instead, below a scratch prefix that is deleted at the end
  --url URL         its endpoint; Amazon S3 by default
  -o OPTIONS        further options of the mount, e.g. passwd_file=/path/to/keys; keys of the environment are found too
`;

const IMAGES = 300;
const TSFS = new URL('./tsfs', import.meta.url).pathname;
/** With time for a first build. */
const MOUNT_LIMIT_MS = 120_000;
const UMOUNT_LIMIT_MS = 60_000;
const STATUS_LIMIT_MS = 10_000;
const CLEAN_UP_LIMIT_MS = 90_000;
const WATCH_MS = 500;

/** What must be undone, in reverse; one failure does not keep the rest from being undone. */
class CleanUp {
  readonly #actions: (() => Promise<void>)[] = [];

  add(action: () => Promise<void>): void {
    this.#actions.push(action);
  }

  async run(): Promise<void> {
    for (let action = this.#actions.pop(); action !== undefined; action = this.#actions.pop()) {
      try {
        const late = sleep(CLEAN_UP_LIMIT_MS, undefined, { ref: false }).then(() => {
          throw new Error(`a step of the clean-up took longer than ${CLEAN_UP_LIMIT_MS / 1000} s`);
        });
        await Promise.race([action(), late]);
      } catch (error) {
        console.error(`demo: ${messageOf(error)}`);
        process.exitCode = 1;
      }
    }
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      once: { type: 'boolean', default: false },
      bucket: { type: 'string' },
      url: { type: 'string' },
      options: { type: 'string', short: 'o' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return;
  }
  const { bucket, url, options } = values;
  if (bucket === undefined && (url !== undefined || options !== undefined)) throw new Error('--bucket is missing');

  const interrupt = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => interrupt.abort(new Error(signal)));
  }
  // Who read the output is gone: `npm run demo | head`.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', (error) => interrupt.abort(error));
  const cleanUp = new CleanUp();
  try {
    // Node resolves symbolic links of a working directory, the mount table knows none either.
    const scratch = await mkdtemp(join(await realpath(tmpdir()), 'tsfs-demo-'));
    cleanUp.add(() => rm(scratch, { recursive: true, force: true }));
    const context: DemoContext = {
      scratch,
      signal: interrupt.signal,
      progress: (text) => console.log(`· ${text}`),
      atEnd: (action) => cleanUp.add(action),
    };
    const opening =
      bucket === undefined ? openLocalBucket(context) : openProviderBucket({ bucket, url, options }, context);
    await show(await orInterrupted(opening, interrupt.signal), context, values.once || !process.stdout.isTTY);
  } catch (error) {
    const wasInterrupted = interrupt.signal.aborted;
    if (!wasInterrupted) console.error(`demo: ${messageOf(error)}`);
    process.exitCode = wasInterrupted ? 130 : 1;
  }
  console.log('· cleaning up');
  await cleanUp.run();
  // A step that was given up may still be pending.
  process.exit();
}

async function show(bucket: DemoBucket, context: DemoContext, once: boolean): Promise<void> {
  const { scratch, signal, progress } = context;
  progress(`filling it with ${IMAGES} images`);
  const images = makeImages(IMAGES);
  if (bucket.prefix !== '') context.atEnd(() => clearPrefix(bucket.store, bucket.prefix));
  const localDirectory = join(scratch, 'local');
  await orInterrupted(fillBucket(bucket.store, images, bucket.prefix, signal), signal);
  await fillDirectory(localDirectory, images);

  const mountpoint = join(scratch, 'mnt');
  progress(`mounting ${bucket.source} on ${mountpoint}`);
  await mount(bucket, mountpoint, context);
  const countRequests = async () => bucket.countRequests?.() ?? (await requestsByStatus(mountpoint, signal));
  progress('reading, listing, writing, renaming');
  const lines: string[][] = [];
  for await (const line of takeTour({ mountpoint, localDirectory, signal, countRequests })) lines.push(line);
  console.log(`\n${formatTable(HEADER, lines)}\n`);
  if (!once) await stay(mountpoint, signal);
}

async function mount(bucket: DemoBucket, mountpoint: string, context: DemoContext): Promise<void> {
  await mkdir(mountpoint);
  const own = ['cache', 'state'].map((name) => join(context.scratch, name));
  const options = `${bucket.options},use_cache=${own[0]},state_dir=${own[1]},logfile=${join(context.scratch, 'tsfs.log')}`;
  // Not ended by Ctrl-C: half a mount could not be undone.
  const mounting = run(TSFS, ['mount', bucket.source, mountpoint, '-o', options.replace(/^,/, '')], {
    limitMs: MOUNT_LIMIT_MS,
    apart: true,
  });
  context.atEnd(async () => {
    await mounting.catch(() => undefined);
    if (await isMounted(mountpoint)) await umount(mountpoint);
  });
  await orInterrupted(mounting, context.signal);
}

/** Politely first; then without waiting for anything. */
async function umount(mountpoint: string): Promise<void> {
  try {
    await run(TSFS, ['umount', mountpoint], { limitMs: UMOUNT_LIMIT_MS, apart: true });
  } catch (error) {
    console.error(`demo: ${messageOf(error)}`);
    await unmount(mountpoint);
  }
}

/** Where no proxy can count, as in front of TLS: the mount's own counts, createMultipart as CREATE_MULTIPART. */
async function requestsByStatus(mountpoint: string, signal: AbortSignal): Promise<RequestCounts> {
  const { stdout } = await run(TSFS, ['status', '--json', mountpoint], { limitMs: STATUS_LIMIT_MS, signal });
  const { store } = JSON.parse(stdout) as Pick<MountStatus, 'store'>;
  const name = (operation: string) => operation.replace(/[A-Z]/g, '_$&').toUpperCase();
  return Object.fromEntries(Object.entries(store.operations).map(([type, { count }]) => [name(type), count]));
}

/** Until Ctrl-C, until somebody else unmounts it, or until the terminal's npm is gone. */
async function stay(mountpoint: string, signal: AbortSignal): Promise<void> {
  const parent = process.ppid;
  console.log(`The bucket is mounted on ${mountpoint} until you press Ctrl-C. In another terminal, try:

  ls -l ${mountpoint} | head
  cp ${mountpoint}/image-0001.png ${mountpoint}/copy.png
  echo hello > ${mountpoint}/hello.txt && cat ${mountpoint}/hello.txt
  ${TSFS} status ${mountpoint}
`);
  while (!signal.aborted && process.ppid === parent && (await isMounted(mountpoint))) {
    await sleep(WATCH_MS, undefined, { signal }).catch(() => undefined);
  }
}

function orInterrupted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

async function fillDirectory(directory: string, files: Files): Promise<void> {
  await mkdir(directory);
  for (const [path, content] of files) await writeFile(join(directory, path), content);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

await main().catch((error: unknown) => {
  console.error(`demo: ${messageOf(error)}`);
  process.exitCode = 2;
});
