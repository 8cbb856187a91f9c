/** What is parsed from text that others wrote: metadata, keys, options, files of rules and keys, lines on sockets. */
import { mkdtemp, rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { silentLogger } from '../../src/base/log.ts';
import { parseOptions, splitOptions } from '../../src/cli/parse-options.ts';
import { FsError } from '../../src/fs/errors.ts';
import { decodeAttributes, encodeAttributes } from '../../src/fs/metadata.ts';
import { inodeNumber, isValidName, parseListing } from '../../src/fs/names.ts';
import { serveControl } from '../../src/mount/control.ts';
import { MountError } from '../../src/mount/errors.ts';
import { headerMatcher, parseHeaderRules, parseMimeTypes } from '../../src/mount/header-rules.ts';
import { LineReader } from '../../src/mount/line-reader.ts';
import { parsePasswdFile } from '../../src/mount/passwd-file.ts';
import { decodeMetadata, encodeMetadata, toEtag } from '../../src/store/s3-headers.ts';
import { fuzzRuns } from '../support/fuzz.ts';

const LIMIT = { timeout: 3_600_000 };

/** Text with all that a parser may stumble over. */
const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.string({ unit: 'grapheme', maxLength: 60 }),
  fc
    .array(
      fc.constantFrom(
        'a',
        ':',
        '=',
        ',',
        '\\',
        '/',
        '.',
        '..',
        '%',
        '%2F',
        ' ',
        '\t',
        '\n',
        '\r',
        '\0',
        '"',
        '#',
        'reg:',
        '(',
        '\ud800',
        '€',
      ),
      { maxLength: 30 },
    )
    .map((parts) => parts.join('')),
);
const number = fc.oneof(
  fc.integer().map(String),
  fc.double().map(String),
  fc.bigInt().map(String),
  fc.integer({ min: 0, max: 0o777777 }).map((mode) => mode.toString(8)),
  fc.constantFrom(
    '-0',
    '0x10',
    '1e400',
    '00',
    '.5',
    '5.',
    '-.5',
    '253402300800',
    '-9223372036854775808',
    '1.9999999999',
    '٣',
  ),
);

/** Fails only with the error that it announces. */
function attempt<T>(work: () => T, ...errors: (new (...args: never[]) => Error)[]): T | undefined {
  try {
    return work();
  } catch (error) {
    if (errors.some((type) => error instanceof type)) return undefined;
    throw error;
  }
}

test('metadata of objects', LIMIT, () => {
  const names = [
    'mode',
    'uid',
    'gid',
    'mtime',
    'ctime',
    'atime',
    'xattr',
    'permissions',
    'owner',
    'group',
    '__proto__',
  ];
  const others = ['goog-reserved-posix-mode', 'goog-reserved-posix-uid', 'goog-reserved-file-mtime', 'other'];
  const xattr = fc.json().map(encodeURIComponent);
  const metadata = fc.dictionary(fc.constantFrom(...names, ...others), fc.oneof(number, text, xattr));
  const head = fc.record({
    metadata,
    sizeBytes: fc.nat(),
    lastModifiedMs: fc.nat(4e12),
    etag: fc.constant('e'),
    contentType: text,
  });
  fc.assert(
    fc.property(head, fc.boolean(), (given, isDirectory) => {
      const fields = decodeAttributes(given, isDirectory);
      for (const time of [fields.mtime, fields.ctime, fields.atime]) {
        if (time === undefined) continue;
        expect(Number.isSafeInteger(time.sec) && Math.abs(time.sec) <= 253_402_300_800).toBe(true);
        expect(Number.isInteger(time.nsec) && time.nsec >= 0 && time.nsec < 1e9).toBe(true);
      }
      for (const id of [fields.uid, fields.gid])
        expect(id === undefined || (Number.isInteger(id) && id >= 0 && id < 2 ** 32 - 1)).toBe(true);
      expect(
        fields.mode === undefined || (Number.isInteger(fields.mode) && fields.mode >= 0 && fields.mode <= 0o7777),
      ).toBe(true);
      expect(fields.kind === 'directory').toBe(isDirectory);
      // What is written back means the same.
      const written = attempt(() => encodeAttributes({ ...fields, name: 'n' }), FsError);
      if (written === undefined) return;
      const { extras, ...again } = decodeAttributes({ ...given, ...written }, isDirectory);
      const { extras: before, ...expected } = fields;
      expect(extras?.xattrs).toEqual(before?.xattrs);
      expect({ ...again, mode: again.mode ?? expected.mode }).toEqual({
        ...expected,
        mode: expected.mode ?? again.mode,
      });
    }),
    fuzzRuns(500),
  );
});

test('values of metadata headers come back', LIMIT, () => {
  fc.assert(
    fc.property(text, (value) => {
      expect(decodeMetadata(encodeMetadata(value.toWellFormed()))).toBe(value.toWellFormed());
      expect(encodeMetadata(value)).toMatch(/^[\x20-\x7e]*$/);
      expect(typeof decodeMetadata(value)).toBe('string');
      toEtag(value);
    }),
    fuzzRuns(500),
  );
});

test('keys of listings', LIMIT, () => {
  const key = fc.oneof(
    text,
    text.map((end) => `d/${end}`),
    fc.constantFrom('d/', 'd//', 'd/.', 'd/../x', '_$folder$', 'd/_$folder$', 'd/x_$folder$'),
  );
  const sizeBytes = fc.oneof(fc.nat(), fc.constantFrom(0, -1, Number.NaN, 2 ** 60));
  const object = fc.record({ key, sizeBytes, etag: text, lastModifiedMs: fc.oneof(fc.nat(), fc.constant(Number.NaN)) });
  const page = fc.record({
    objects: fc.array(object),
    prefixes: fc.array(
      fc.oneof(
        key,
        key.map((start) => `${start}/`),
      ),
    ),
  });
  fc.assert(
    fc.property(fc.constantFrom('', 'd/'), page, (prefix, given) => {
      const { names, skipped, shadowed, marker, sample } = parseListing(prefix, given);
      expect(
        new Set(names.filter(({ kind }) => kind === 'directory').map(({ name }) => name)).size,
      ).toBeLessThanOrEqual(names.length);
      for (const entry of names) {
        expect(isValidName(entry.name)).toBe(true);
        if (entry.kind === 'file')
          expect(
            Number.isSafeInteger(entry.sizeBytes) && entry.sizeBytes >= 0 && Number.isSafeInteger(entry.lastModifiedMs),
          ).toBe(true);
      }
      expect(sample === undefined).toBe(skipped + shadowed === 0);
      expect(marker === undefined || marker.key === prefix).toBe(true);
    }),
    fuzzRuns(500),
  );
});

test('inode numbers', LIMIT, () => {
  fc.assert(
    fc.property(text, text, (bucket, key) => {
      const number = inodeNumber(bucket, key);
      expect(number > 1n && number < 2n ** 63n).toBe(true);
    }),
    fuzzRuns(200),
  );
});

test('options', LIMIT, () => {
  fc.assert(
    fc.property(text, (options) => {
      attempt(() => parseOptions(splitOptions(options), '/'), MountError);
    }),
    fuzzRuns(500),
  );
});

test('passwd_file: what is wrong is told without a word of it', LIMIT, () => {
  const secret = fc.stringMatching(/^[A-Z0-9]{20}$/);
  const file = fc.tuple(text, secret, text).map(([before, key, after]) => ({ content: before + key + after, key }));
  fc.assert(
    fc.property(file, ({ content, key }) => {
      try {
        const { accessKeyId, secretAccessKey } = parsePasswdFile(content, 'bucket', 'FILE');
        expect(accessKeyId !== '' && secretAccessKey !== '').toBe(true);
      } catch (error) {
        if (!(error instanceof MountError)) throw error;
        expect(`${error.sentence} ${error.message}`).not.toContain(key);
      }
    }),
    fuzzRuns(500),
  );
});

test('rules for headers', LIMIT, () => {
  const line = fc
    .tuple(text, fc.constantFrom('Content-Type', 'x-amz-acl', 'Expires', 'Host', ''), text)
    .map((parts) => parts.join(' '));
  fc.assert(
    fc.property(fc.array(line, { maxLength: 5 }), text, (lines, path) => {
      const rules = attempt(() => parseHeaderRules(lines.join('\n'), 'FILE'), MountError);
      for (const [header, value] of Object.entries(headerMatcher(rules ?? [])(path))) {
        expect(header).toMatch(/^[a-z0-9-]+$/);
        expect(value).not.toMatch(/[\r\n\0]/);
      }
      parseMimeTypes(lines.join('\n'));
    }),
    fuzzRuns(500),
  );
});

test('lines, however they are cut into chunks', LIMIT, () => {
  const chunks = fc.array(
    fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
    { maxLength: 10 },
  );
  fc.assert(
    fc.property(chunks, (given) => {
      const reader = new LineReader(1_000_000);
      const lines = given.flatMap((chunk) => reader.push(chunk) ?? []);
      const bytes = Buffer.concat(given);
      const whole = bytes.subarray(0, bytes.lastIndexOf(0x0a) + 1);
      // A character whose end is missing shows with the chunk that follows.
      expect(lines.join('\n').replace(/\ufffd/g, '')).toBe(
        whole
          .toString()
          .slice(0, -1)
          .replace(/\ufffd/g, ''),
      );
      const bounded = new LineReader(10);
      for (const chunk of given)
        for (const line of bounded.push(chunk) ?? []) expect(line.length).toBeLessThanOrEqual(10);
    }),
    fuzzRuns(500),
  );
});

test('requests on the control socket', LIMIT, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tsfs-fuzz-'));
  const path = join(directory, 'control', 'socket');
  const server = await serveControl(path, { echo: async (args) => args }, silentLogger);
  const ask = (bytes: Uint8Array) =>
    new Promise<string>((resolve, reject) => {
      let reply = '';
      const socket = createConnection(path, () => socket.write(Buffer.concat([bytes, Buffer.from('\n')])));
      socket.setEncoding('utf8').on('data', (part) => {
        reply += part;
      });
      socket.once('error', reject);
      socket.once('close', () => resolve(reply));
    });
  const request = fc.oneof(
    text.map((line) => Buffer.from(line)),
    fc.json().map((line) => Buffer.from(line)),
    fc.uint8Array(),
    fc
      .record({ command: fc.constantFrom('echo', '__proto__', 'constructor', 'toString', ''), args: fc.jsonValue() })
      .map((value) => Buffer.from(JSON.stringify(value))),
  );
  try {
    await fc.assert(
      fc.asyncProperty(request, async (bytes) => {
        const last = (await ask(bytes)).trimEnd().split('\n').at(-1) ?? '';
        expect(Object.keys(JSON.parse(last) as object)).toEqual([expect.stringMatching(/^(result|error)$/)]);
      }),
      fuzzRuns(200),
    );
  } finally {
    await server.close();
    await rm(directory, { recursive: true });
  }
});
