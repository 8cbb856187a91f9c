/** `npm run bench`: measures tsfs beside the local disk and its peers. */
import { readdir } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { saveChart } from './chart.ts';
import { Field, formatDuration } from './field.ts';
import { check } from './goals.ts';
import { Lab } from './lab.ts';
import { markdown, resultTable } from './report.ts';
import { describeMachine, loadResults, RESULTS_DIRECTORY, type Result, saveResult, toResultRow } from './results.ts';
import type { Suite, SuiteOptions } from './suite.ts';
import { PEERS } from './targets/peers.ts';
import { TSFS_TARGETS } from './targets/tsfs.ts';
import { local, type Target } from './targets.ts';

const MAX_ROUNDS = 100;
/** The machine is busy: figures would tell of others' work. */
const BUSY_LOAD = 0.7;
const SUITE_LIMIT_MS = 4 * 3_600_000;
const QUICK_LIMIT_MS = 5 * 60_000;
const SUITES = new URL('./suites/', import.meta.url);
const TARGETS: readonly Target[] = [local, ...TSFS_TARGETS, ...PEERS];

const HELP = `npm run bench [-- OPTIONS]

  --suite NAME      what to measure, may be repeated; "all" for all; by default those marked *
  --targets LIST    of ${TARGETS.map(({ name }) => name).join(', ')};
                    by default all that are installed
  --rounds N        how often everything is measured; each suite has its own default
  --full            the largest sizes too
  --quick           small sizes and one round: shows that it works, not how fast anything is
  --output DIR      where JSON and SVG go; bench/results by default, nowhere with --quick
  --list            name the suites, and measure nothing
  --check           compare the results of bench/results with the goals, and measure nothing
  --markdown        print the results of bench/results as a table of Markdown, and measure nothing
`;

interface Settings {
  readonly targets: readonly Target[];
  readonly availabilities: Availabilities;
  readonly rounds: number | undefined;
  readonly quick: boolean;
  readonly full: boolean;
  /** undefined: results are not kept. */
  readonly output: string | undefined;
  readonly signal: AbortSignal;
}

interface Availabilities {
  readonly present: Readonly<Record<string, { readonly version: string; readonly options: string }>>;
  readonly missing: Readonly<Record<string, string>>;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      suite: { type: 'string', multiple: true, default: [] },
      targets: { type: 'string' },
      rounds: { type: 'string' },
      full: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      output: { type: 'string' },
      list: { type: 'boolean', default: false },
      check: { type: 'boolean', default: false },
      markdown: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const suites = await loadSuites();
  if (values.help) return console.log(`${HELP}\n${describeSuites(suites)}`);
  if (values.list) return console.log(describeSuites(suites));
  if (values.check) return judge(values.output ?? RESULTS_DIRECTORY);
  if (values.markdown) return console.log(markdown(await loadResults(values.output ?? RESULTS_DIRECTORY)));

  const chosen = chooseSuites(suites, values.suite);
  const wanted = values.targets?.split(',').map((name) => find(TARGETS, name)) ?? TARGETS;
  const settings: Settings = {
    targets: wanted,
    availabilities: await probe(wanted),
    rounds: values.rounds === undefined ? undefined : parseRounds(values.rounds),
    quick: values.quick,
    full: values.full,
    output: values.output ?? (values.quick ? undefined : RESULTS_DIRECTORY),
    signal: interruption(),
  };
  for (const suite of chosen) {
    await runSuite(suite, settings).catch((error: unknown) => {
      settings.signal.throwIfAborted();
      fail(`${suite.name}: ${messageOf(error)}`);
    });
  }
  const rest = suites.filter((suite) => !chosen.includes(suite));
  if (values.suite.length === 0) console.log(`\nNot run, name them with --suite:\n${describeSuites(rest)}`);
}

async function judge(directory: string): Promise<void> {
  const { text, isMet } = check(await loadResults(directory));
  console.log(text);
  if (!isMet) process.exitCode = 1;
}

async function loadSuites(): Promise<Suite[]> {
  const files = (await readdir(SUITES)).filter((name) => name.endsWith('.ts')).sort();
  return Promise.all(files.map(async (file) => ((await import(new URL(file, SUITES).href)) as { suite: Suite }).suite));
}

function chooseSuites(suites: readonly Suite[], names: readonly string[]): readonly Suite[] {
  if (names.length === 0) return suites.filter(({ isDefault }) => isDefault);
  return names.includes('all') ? suites : names.map((name) => find(suites, name));
}

function describeSuites(suites: readonly Suite[]): string {
  const sizes = { quick: false, full: false };
  return suites
    .map((suite) => `${suite.isDefault ? '*' : ' '} ${suite.name} (${suite.minutes} min): ${suite.title(sizes)}`)
    .join('\n');
}

function find<T extends { readonly name: string }>(list: readonly T[], name: string): T {
  const found = list.find((item) => item.name === name);
  if (found === undefined) throw new Error(`no "${name}"; there is: ${list.map((item) => item.name).join(', ')}`);
  return found;
}

function parseRounds(text: string): number {
  const rounds = Number(text);
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > MAX_ROUNDS) throw new Error(`--rounds: 1 to ${MAX_ROUNDS}`);
  return rounds;
}

function interruption(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => controller.abort(new Error('interrupted')));
  }
  return controller.signal;
}

async function probe(targets: readonly Target[]): Promise<Availabilities> {
  const present: Record<string, { version: string; options: string }> = {};
  const missing: Record<string, string> = {};
  for (const target of targets) {
    const availability = await target.availability();
    if ('missing' in availability) {
      missing[target.name] = availability.missing;
      console.error(`bench: without ${target.name}: ${availability.missing}`);
    } else {
      present[target.name] = availability;
    }
  }
  return { present, missing };
}

async function runSuite(suite: Suite, settings: Settings): Promise<void> {
  const { targets, availabilities, quick, full, output } = settings;
  const signal = AbortSignal.any([settings.signal, AbortSignal.timeout(quick ? QUICK_LIMIT_MS : SUITE_LIMIT_MS)]);
  const options: SuiteOptions = { quick, full, signal, rounds: settings.rounds ?? (quick ? 1 : suite.defaultRounds) };
  const entrants = targets.filter((target) => target.name in availabilities.present && suite.takes(target));
  const field = new Field({
    suite: suite.name,
    targets: [...entrants, ...(suite.extraTargets ?? [])],
    signal,
    say: (text) => console.error(text),
  });
  const startMs = performance.now();
  field.say('starting an object store on loopback');
  const lab = await Lab.open(signal);
  let result: Result;
  try {
    const date = new Date();
    const machine = await describeMachine(lab.scratch);
    if (machine.loadAverageAtStart > BUSY_LOAD) {
      field.say(`this machine is busy (load ${machine.loadAverageAtStart}): do not trust the figures`);
    }
    const rows = await suite.run(lab, field, options);
    result = {
      suite: suite.name,
      title: suite.title(options),
      date: date.toISOString(),
      command: ['npm run bench --', ...process.argv.slice(2)].join(' '),
      rounds: options.rounds,
      machine,
      node: process.version,
      targets: Object.fromEntries(entrants.map(({ name }) => [name, availabilities.present[name] ?? noVersion])),
      missing: availabilities.missing,
      failures: field.failures,
      results: rows.map(toResultRow),
    };
  } finally {
    await lab.close();
  }
  console.log(`\n${resultTable(result)}\n`);
  if (output !== undefined) {
    console.log(`saved: ${await saveResult(result, output)}, ${await saveChart(result, output)}`);
  }
  for (const name of Object.keys(field.failures)) fail(`${suite.name}: ${name} failed, see above`);
  field.say(`took ${formatDuration(performance.now() - startMs)}`);
}

const noVersion = { version: '', options: '' };

function fail(text: string): void {
  console.error(`bench: ${text}`);
  process.exitCode = 1;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

await main().catch((error: unknown) => fail(messageOf(error)));
// A measuring program that hangs in a mount which does not answer must not keep this process.
process.exit();
