/** The option table as text for a terminal and as Markdown. */
import { GROUPS, OPTION_SPECS, type OptionSpec } from './options.ts';

const WIDTH = 100;
const INDENT = 30;

/** All options, by group. */
export function optionHelp(): string {
  const groups = Object.entries(GROUPS).map(([group, title]) => {
    const lines = OPTION_SPECS.filter(([, spec]) => spec.group === group && spec.support === undefined).map(line);
    return [`${title}:`, ...lines].join('\n');
  });
  return [...groups, ...remarks()].join('\n\n');
}

function line([name, spec]: readonly [string, OptionSpec]): string {
  const left = `  ${[usage(name, spec), ...opposites(spec)].join(', ')}`;
  const right = wrap(explanation(spec), WIDTH - INDENT).join(`\n${' '.repeat(INDENT)}`);
  return left.length < INDENT ? left.padEnd(INDENT) + right : `${left}\n${' '.repeat(INDENT)}${right}`;
}

function usage(name: string, spec: OptionSpec): string {
  if (spec.kind === 'optionalText') return `${name}[=${spec.value}]`;
  if (spec.value !== undefined) return `${name}=${spec.value}`;
  return name;
}

function opposites(spec: OptionSpec): string[] {
  return spec.opposite === undefined ? [] : [spec.opposite];
}

function explanation(spec: OptionSpec): string {
  const also = spec.aliases === undefined ? [] : [`also ${spec.aliases.join(', ')}`];
  const notes = [...also, ...(spec.default === undefined ? [] : [`default: ${spec.default}`])];
  return notes.length === 0 ? spec.help : `${spec.help} (${notes.join('; ')})`;
}

function remarks(): string[] {
  const lines = (names: readonly string[]) => wrap(names.join(', '), WIDTH - 2).map((text) => `  ${text}`);
  return [
    ['Accepted, as it is always so:', ...lines(namesOf('builtin'))].join('\n'),
    ['Accepted and without effect (the log says so):', ...lines(namesOf('ignored'))].join('\n'),
    ['Refused:', ...lines(namesOf('refused'))].join('\n'),
  ];
}

function namesOf(support: OptionSpec['support']): string[] {
  return OPTION_SPECS.filter(([, spec]) => spec.support === support).flatMap(([name, spec]) => [
    name,
    ...(spec.aliases ?? []),
  ]);
}

/** Breaks text between words. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

const SUPPORT_TEXT = { builtin: 'always so', ignored: 'no effect', refused: 'refused' } as const;

/** One table for each group. */
export function optionMarkdown(): string {
  const groups = Object.entries(GROUPS).map(([group, title]) => {
    const rows = OPTION_SPECS.filter(([, spec]) => spec.group === group).map(row);
    return [`#### ${title}`, '', '| option | meaning | default |', '|---|---|---|', ...rows].join('\n');
  });
  return groups.join('\n\n');
}

function row([name, spec]: readonly [string, OptionSpec]): string {
  const names = [usage(name, spec), ...opposites(spec), ...(spec.aliases ?? [])]
    .map((text) => `\`${text}\``)
    .join(', ');
  const support = spec.support === undefined ? '' : `*${SUPPORT_TEXT[spec.support]}:* `;
  const cells = [names, support + spec.help, spec.default ?? ''];
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}
