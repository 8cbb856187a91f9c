/** `npm run bench -- --suite NAME`: measures tsfs beside the local disk and its peers. */
import { readdir } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { Lab } from './lab.ts';
import { printReport, saveReport } from './report.ts';
import type { Suite } from './suite.ts';
import { TARGETS, type Target } from './targets.ts';

const MAX_ROUNDS = 100;
const SUITES = new URL('./suites/', import.meta.url);

const HELP = `npm run bench -- --suite NAME [--suite NAME …] [--rounds N] [--targets NAME,NAME]

  --suite NAME      what to measure; --list names all
  --rounds N        how often everything is measured; each suite has its own default
  --targets LIST    of ${TARGETS.map(({ name }) => name).join(', ')}; by default all that are installed
`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      suite: { type: 'string', multiple: true, default: [] },
      rounds: { type: 'string' },
      targets: { type: 'string' },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const suites = await loadSuites();
  if (values.list || values.help || values.suite.length === 0) {
    process.stdout.write(`${HELP}\n${suites.map(({ name, title }) => `${name}: ${title}`).join('\n')}\n`);
    process.exitCode = values.list || values.help ? 0 : 2;
    return;
  }
  const rounds = values.rounds === undefined ? undefined : parseRounds(values.rounds);
  const chosen = values.suite.map((name) => find(suites, name));
  const wanted = values.targets?.split(',').map((name) => find(TARGETS, name)) ?? TARGETS;
  const { targets, versions } = await installed(wanted);
  for (const suite of chosen) await runSuite(suite, targets, versions, rounds ?? suite.defaultRounds);
}

function parseRounds(text: string): number {
  const rounds = Number(text);
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > MAX_ROUNDS) throw new Error(`--rounds: 1 to ${MAX_ROUNDS}`);
  return rounds;
}

function find<T extends { readonly name: string }>(list: readonly T[], name: string): T {
  const found = list.find((item) => item.name === name);
  if (found === undefined) throw new Error(`no "${name}"; there is: ${list.map((item) => item.name).join(', ')}`);
  return found;
}

async function loadSuites(): Promise<Suite[]> {
  const files = (await readdir(SUITES)).filter((name) => name.endsWith('.ts')).sort();
  return Promise.all(files.map(async (file) => ((await import(new URL(file, SUITES).href)) as { suite: Suite }).suite));
}

async function installed(wanted: readonly Target[]): Promise<{ targets: Target[]; versions: Record<string, string> }> {
  const targets: Target[] = [];
  const versions: Record<string, string> = {};
  for (const target of wanted) {
    const version = await target.version();
    if (version === undefined) {
      console.error(`${target.name} is not installed: left out`);
      continue;
    }
    targets.push(target);
    versions[target.name] = version;
  }
  return { targets, versions };
}

async function runSuite(
  suite: Suite,
  targets: readonly Target[],
  versions: Record<string, string>,
  rounds: number,
): Promise<void> {
  const interrupted = new AbortController();
  const onSignal = () => interrupted.abort(new Error('interrupted'));
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  const progress = (text: string) => console.error(`${suite.name}: ${text}`);
  const date = new Date();
  progress('starting an object store on loopback');
  const lab = await Lab.open(interrupted.signal);
  try {
    const rows = await suite.run(lab, targets, { rounds, signal: interrupted.signal, progress });
    const report = { suite, rounds, rows, versions, date, scratch: lab.scratch };
    printReport(report);
    console.log(`\nsaved: ${await saveReport(report)}`);
  } finally {
    await lab.close();
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

await main().catch((error: unknown) => {
  console.error(`bench: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
});
