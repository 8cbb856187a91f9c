/** Runs parts of the suite with a native addon that was built under a sanitizer. */
import { execFile, spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { announceDaemonEnvironment } from '../support/daemon-environment.ts';

const run = promisify(execFile);

const ROOT = join(import.meta.dirname, '../..');
const VITEST = join(ROOT, 'node_modules/vitest/vitest.mjs');
const BUILD_LIMIT_MS = 120_000;
/** Everything is several times slower. */
const PATIENCE = 4;
const TEST_LIMIT_MS = 300_000;

export type Sanitizer = 'address' | 'thread';

export interface Outcome {
  readonly status: number | null;
  readonly output: string;
  /** What the sanitizer found; '' when it found nothing. */
  readonly reports: string;
}

/**
 * Builds addon and guardian, unless they are newer than their sources, and resolves with the variables that name them. Rejects with what to install
 * when the compiler lacks the sanitizer.
 */
export async function buildNative(sanitizer: Sanitizer): Promise<Record<string, string>> {
  const env = { ...process.env, SANITIZE: sanitizer };
  await run(join(ROOT, 'scripts/build-native.sh'), [], { env, timeout: BUILD_LIMIT_MS }).catch((error) => {
    throw new Error(`no addon under the ${sanitizer} sanitizer: ${error.stderr || error.message}`);
  });
  return {
    TSFS_NATIVE: join(ROOT, `build/tsfs_native.${sanitizer}.node`),
    TSFS_DIGEST: join(ROOT, `build/tsfs_digest.${sanitizer}.node`),
    TSFS_GUARDIAN: join(ROOT, `build/tsfs-guardian.${sanitizer}`),
  };
}

/** Whether the tests load the addon, or only the daemons that they start. Other programs may have faults of their own. */
export type Place = 'tests' | 'daemons';

/** Vitest with these arguments, with the gateway of the environment. */
export async function runUnder(
  sanitizer: Sanitizer,
  place: Place,
  vitest: readonly string[],
  limitMs: number,
): Promise<Outcome> {
  const programs = await buildNative(sanitizer);
  const directory = await mkdtemp(join(tmpdir(), 'tsfs-sanitize-'));
  try {
    const loaded = { ...programs, ...(await preload(sanitizer, join(directory, 'report'))) };
    const outcome = await runVitest(vitest, limitMs, {
      ...process.env,
      // Of vitest itself, when this runs within it.
      VITEST: undefined,
      VITEST_WORKER_ID: undefined,
      VITEST_POOL_ID: undefined,
      NODE_OPTIONS: undefined,
      TSFS_TEST_PATIENCE: `${PATIENCE}`,
      ...(place === 'tests' ? loaded : announceDaemonEnvironment(loaded)),
    });
    // Processes of the tests are often killed, so that their exit status says nothing: the reports do.
    const names = await readdir(directory);
    const reports = await Promise.all(names.map((name) => readFile(join(directory, name), 'utf8')));
    return { ...outcome, reports: reports.join('\n') };
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** Node is not built under the sanitizer: its runtime has to be there before everything else. */
async function preload(sanitizer: Sanitizer, log: string): Promise<Record<string, string>> {
  const library = sanitizer === 'address' ? 'libasan.so' : 'libtsan.so';
  const { stdout } = await run(process.env.CXX ?? 'g++', [`-print-file-name=${library}`]);
  const LD_PRELOAD = stdout.trim();
  if (sanitizer === 'address') {
    // Leaks: Node frees little at its end. LSan also needs ptrace.
    return { LD_PRELOAD, ASAN_OPTIONS: `detect_leaks=0:abort_on_error=1:log_path=${log}` };
  }
  const suppressions = join(import.meta.dirname, 'thread.supp');
  // Leaks: the guardian and workers end while their threads wait for the kernel.
  const options = `ignore_noninstrumented_modules=1:report_thread_leaks=0:suppressions=${suppressions}:log_path=${log}`;
  return { LD_PRELOAD, TSAN_OPTIONS: options };
}

async function runVitest(args: readonly string[], limitMs: number, env: NodeJS.ProcessEnv) {
  // Without address randomisation: the thread sanitizer wants memory where it expects it.
  const command = ['--addr-no-randomize', process.execPath, VITEST, 'run', `--testTimeout=${TEST_LIMIT_MS}`, ...args];
  const child = spawn('setarch', command, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'], timeout: limitMs });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-100_000);
    });
  }
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  return { status, output };
}
