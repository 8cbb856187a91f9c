/** `-o name,name=value,…` → values, by the table in `options.ts`. */
import { resolve } from 'node:path';
import { EXIT, MountError } from '../mount/errors.ts';
import { nearest } from './nearest.ts';
import { OPTION_SPECS, type OptionName, type OptionSpec, type OptionValues } from './options.ts';
import { printable } from './terminal.ts';

export interface ParsedOptions {
  readonly values: OptionValues;
  /** Sentences for the log: what was accepted and does nothing. */
  readonly notices: readonly string[];
}

export interface RawOption {
  readonly name: string;
  /** undefined: no `=` was written. */
  readonly value: string | undefined;
}

/** Longest -o string, and most options in it. */
const MAX_LENGTH = 64 * 1024;
const MAX_OPTIONS = 1000;

/** Splits at commas; a backslash takes the next character as it is (libfuse's rule). */
export function splitOptions(text: string): RawOption[] {
  if (text.length > MAX_LENGTH) throw usage(`The options are longer than ${MAX_LENGTH} characters.`);
  const words = [...text.matchAll(/(?:\\[\s\S]|[^,\\]|\\$)+/g)].map(([word]) => word);
  if (words.length > MAX_OPTIONS) throw usage(`There are more than ${MAX_OPTIONS} options.`);
  return words.map((word) => {
    const equals = word.indexOf('=');
    const plain = (part: string) => part.replace(/\\([\s\S])/g, '$1').trim();
    if (equals < 0) return { name: plain(word), value: undefined };
    return { name: plain(word.slice(0, equals)), value: plain(word.slice(equals + 1)) };
  });
}

interface Known {
  readonly name: OptionName;
  readonly spec: OptionSpec;
  /** Written as the word that switches the flag off. */
  readonly isOpposite: boolean;
}

const KNOWN: ReadonlyMap<string, Known> = new Map(
  OPTION_SPECS.flatMap(([name, spec]) => {
    const known = { name, spec, isOpposite: false };
    const names = [name, ...(spec.aliases ?? [])].map((word): [string, Known] => [word, known]);
    return spec.opposite === undefined ? names : [...names, [spec.opposite, { ...known, isOpposite: true }]];
  }),
);

function find(name: string): Known | undefined {
  return KNOWN.get(name) ?? (/^[xX]-/.test(name) ? KNOWN.get(`${name[0]}-*`) : undefined);
}

/** Throws a `MountError` for the first option that is wrong. The last of several values wins. */
export function parseOptions(options: readonly RawOption[], workingDirectory: string): ParsedOptions {
  const values: Partial<Record<OptionName, unknown>> = {};
  const notices: string[] = [];
  for (const { name, value } of options) {
    const known = find(name);
    if (known === undefined) throw unknownOption(name);
    const { spec } = known;
    if (spec.support === 'refused') throw usage(`The option ${name} is refused: ${spec.help}.`);
    if (spec.support === 'ignored') notices.push(`The option ${name} does nothing here: ${spec.help}.`);
    if (spec.support !== undefined) continue;
    const parsed = parseValue(name, spec, value, workingDirectory);
    values[known.name] = known.isOpposite ? !parsed : parsed;
  }
  return { values: values as OptionValues, notices };
}

function unknownOption(name: string): MountError {
  const near = nearest(
    name,
    [...KNOWN.keys()].filter((word) => !word.endsWith('*')),
  );
  const hint = near === undefined ? 'tsfs help options lists all' : `did you mean ${near}?`;
  return usage(`There is no option ${shown(name)}; ${hint}${hint.endsWith('?') ? '' : '.'}`);
}

function parseValue(name: string, spec: OptionSpec, given: string | undefined, workingDirectory: string): unknown {
  if (spec.kind === 'flag') return parseFlag(name, given);
  if (spec.kind !== 'optionalText' && (given === undefined || given === '')) {
    throw usage(`The option ${name} needs a value: ${name}=${spec.value ?? 'VALUE'}.`);
  }
  const value = given ?? '';
  if (spec.choices !== undefined && !spec.choices.includes(value)) {
    const choices = spec.choices.filter((choice) => choice !== '').join(', ');
    throw usage(`The option ${name} is one of ${choices}, not ${shown(value)}.`);
  }
  switch (spec.kind) {
    case 'path':
      return resolve(workingDirectory, value);
    case 'url':
      return parseUrl(name, value);
    case 'count':
      return number(name, spec, value, /^\d+$/, 1, 'a whole number');
    case 'percent':
      return number(name, { ...spec, max: 100 }, value, /^\d+$/, 1, 'a number from 0 to 100');
    case 'seconds':
      return number(name, spec, value, /^\d+(\.\d+)?$/, 1000, 'a number of seconds');
    case 'megabytes':
      return number(name, spec, value, /^\d+$/, 1024 * 1024, 'a whole number of megabytes');
    case 'octal':
      if (!/^[0-7]{1,4}$/.test(value))
        throw usage(`The option ${name} takes an octal mode like 022, not ${shown(value)}.`);
      return Number.parseInt(value, 8);
    case 'size':
      return parseSize(name, spec, value);
    default:
      return value;
  }
}

function parseFlag(name: string, value: string | undefined): boolean {
  if (value === undefined || value === '1') return true;
  if (value === '0') return false;
  throw usage(`The option ${name} is a switch: give it alone, or as ${name}=1 or ${name}=0.`);
}

/** Largest count of anything: 32-bit ids, and times within reach of the kernel's. */
const MAX_NUMBER = 0xffff_fffe;

function number(name: string, spec: OptionSpec, text: string, form: RegExp, unit: number, what: string): number {
  const value = Number(text);
  if (!form.test(text) || value > MAX_NUMBER) throw usage(`The option ${name} takes ${what}, not ${shown(text)}.`);
  return within(name, spec, Math.round(value * unit), unit);
}

function within(
  name: string,
  { min = 0, max = Number.MAX_SAFE_INTEGER }: OptionSpec,
  value: number,
  unit: number,
): number {
  if (value < min) throw usage(`The option ${name} must be at least ${min / unit}.`);
  if (value > max) throw usage(`The option ${name} must be at most ${max / unit}.`);
  return value;
}

const POWERS = ['', 'K', 'M', 'G', 'T', 'P', 'E'];

/** `10G`, `10GiB` and bare letters are powers of 1024; `10GB` is of 1000. */
function parseSize(name: string, spec: OptionSpec, text: string): number {
  const [, digits = '', letter = '', suffix = ''] = /^(\d{1,15}(?:\.\d{1,3})?)([KMGTPE]?)(i?B)?$/i.exec(text) ?? [];
  const base = suffix.toUpperCase() === 'B' && letter !== '' ? 1000 : 1024;
  const bytes = Math.round(Number(digits) * base ** POWERS.indexOf(letter.toUpperCase()));
  if (digits === '' || bytes > Number.MAX_SAFE_INTEGER) {
    throw usage(`The option ${name} takes a size like 500M or 10G, not ${shown(text)}.`);
  }
  return within(name, spec, bytes, 1);
}

function parseUrl(name: string, text: string): string {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol) || url.hostname === '') {
    throw usage(`The option ${name} takes an address like https://host, not ${shown(text)}.`);
  }
  // argv and mount options are public: every user of the machine can list them.
  if (url.username !== '' || url.password !== '') throw usage(`The option ${name} must not hold a user or a password.`);
  if (url.search !== '' || url.hash !== '') throw usage(`The option ${name} must not have a part after ? or #.`);
  return url.href.replace(/\/+$/, '');
}

/** Input in a message. A secret in the wrong place is not repeated whole. */
function shown(text: string): string {
  return `"${printable(text.length > 40 ? `${text.slice(0, 40)}…` : text)}"`;
}

function usage(sentence: string): MountError {
  return new MountError(sentence, EXIT.usage);
}
