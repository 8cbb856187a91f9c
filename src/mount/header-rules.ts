import { readFile, stat } from 'node:fs/promises';
import { EXIT, MountError, systemCode } from './errors.ts';

/** One line of an `ahbe_conf` file: a header for the objects whose path matches. */
export interface HeaderRule {
  readonly match:
    | { readonly kind: 'all' }
    | { readonly kind: 'suffix'; readonly suffix: string }
    /** Source of a regular expression, tried against `/` and the path below the mount point. */
    | { readonly kind: 'expression'; readonly source: string };
  /** In lower case. */
  readonly header: string;
  readonly value: string;
}

/** Those that S3 keeps on an object, besides `x-amz-…`. */
const STORED_HEADERS = new Set([
  'cache-control',
  'content-disposition',
  'content-encoding',
  'content-language',
  'content-type',
  'expires',
]);

const MAX_RULES = 1000;
const MAX_BYTES = 1024 * 1024;

/**
 * s3fs's format: `[SUFFIX | reg:EXPRESSION] HEADER VALUE…`, one rule a line; `#` begins a comment line, and a line that
 * begins with white space holds for every object.
 */
export function parseHeaderRules(text: string, fileName: string): HeaderRule[] {
  const rules: HeaderRule[] = [];
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const rule = parseLine(line);
    if (typeof rule === 'string') throw badFile(`Line ${index + 1} of the ahbe_conf file ${fileName} ${rule}.`);
    rules.push(rule);
    if (rules.length > MAX_RULES) throw badFile(`The ahbe_conf file ${fileName} has more than ${MAX_RULES} rules.`);
  }
  return rules;
}

/** The rule, or what is wrong with the line. */
function parseLine(line: string): HeaderRule | string {
  const [, pattern = '', header = '', value = ''] = /^(\S*)\s+(\S+)\s*(.*?)\s*$/.exec(line) ?? [];
  if (header === '') return 'has no header';
  const name = header.toLowerCase();
  if (!STORED_HEADERS.has(name) && !/^x-amz-[a-z0-9-]+$/.test(name)) return `names ${header}, which S3 does not keep`;
  // RFC 9110, field values: visible characters, spaces and tabs.
  if (!/^[\t\x20-\x7e\x80-\xff]*$/.test(value)) return `has characters in the value of ${header} that HTTP forbids`;
  if (pattern === '') return { match: { kind: 'all' }, header: name, value };
  if (!pattern.startsWith('reg:')) return { match: { kind: 'suffix', suffix: pattern }, header: name, value };
  const source = pattern.slice('reg:'.length);
  if (!isExpression(source)) return 'has a regular expression that cannot be read';
  return { match: { kind: 'expression', source }, header: name, value };
}

function isExpression(source: string): boolean {
  try {
    new RegExp(source);
    return true;
  } catch {
    return false;
  }
}

/** The headers for one path (relative to the mount point, no leading slash). Later rules win. */
export function headerMatcher(rules: readonly HeaderRule[]): (path: string) => Readonly<Record<string, string>> {
  const tests = rules.map(({ match, header, value }) => ({ test: pathTest(match), header, value }));
  return (path) => Object.fromEntries(tests.filter(({ test }) => test(path)).map((rule) => [rule.header, rule.value]));
}

function pathTest(match: HeaderRule['match']): (path: string) => boolean {
  switch (match.kind) {
    case 'all':
      return () => true;
    case 'suffix':
      return (path) => path.endsWith(match.suffix);
    case 'expression': {
      const expression = new RegExp(match.source);
      return (path) => expression.test(`/${path}`);
    }
  }
}

/** The format of /etc/mime.types: `TYPE EXTENSION…`, `#` begins a comment. Lines without extension are left out. */
export function parseMimeTypes(text: string): HeaderRule[] {
  return text.split(/\r?\n/).flatMap((line) => {
    const [type = '', ...extensions] = line.replace(/#.*/, '').trim().split(/\s+/);
    if (!/^[\w.+-]+\/[\w.+-]+$/.test(type)) return [];
    return extensions.map((extension): HeaderRule => {
      return { match: { kind: 'suffix', suffix: `.${extension}` }, header: 'content-type', value: type };
    });
  });
}

/** Both files are optional; the rules of `ahbe_conf` win over the types of `mime`. */
export async function readHeaderRules(
  mimeFile: string | undefined,
  ahbeFile: string | undefined,
): Promise<HeaderRule[]> {
  const types = mimeFile === undefined ? [] : parseMimeTypes(await readText('mime', mimeFile));
  const rules = ahbeFile === undefined ? [] : parseHeaderRules(await readText('ahbe_conf', ahbeFile), ahbeFile);
  return [...types, ...rules];
}

async function readText(option: string, path: string): Promise<string> {
  try {
    const { size } = await stat(path);
    if (size > MAX_BYTES) throw badFile(`The ${option} file ${path} is larger than ${MAX_BYTES} bytes.`);
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof MountError) throw error;
    throw badFile(`The ${option} file ${path} cannot be read (${systemCode(error) ?? 'unknown reason'}).`);
  }
}

function badFile(sentence: string): MountError {
  return new MountError(sentence, EXIT.usage);
}
