/** The table of semantics with the portable driver, but for what libfuse 2 and its binding have no words for. */
import { readFile, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { CHECKS, describeRows, ROWS } from './checks/rows.ts';
import { eventually, startServer } from './harness.ts';

const ONE_TIME = 'libfuse 2 ignores a change of one time alone (its flag utime_omit_ok is not set by the binding)';

/** Rows that do not hold with this driver, and why. */
const EXCLUDED: Readonly<Record<string, string>> = {
  direct: 'no alignment is asked for, so that nothing is EINVAL',
  fallocate: 'the binding has no such call: EOPNOTSUPP',
  'rename-noreplace': 'libfuse 2 has no flags of rename: EINVAL',
  utimes: `${ONE_TIME}; times are passed on in milliseconds from 1970 on`,
  'directory-mtime': ONE_TIME,
  'directory-mtime-entries': ONE_TIME,
  's3fs-metadata': ONE_TIME,
  owner: "the binding does not tell who calls: new files get the mount's uid and gid",
  'open-version': 'one inode of the kernel for a path: all who have it open share the version that was opened first',
  'exclusive-elsewhere': 'the binding does not tell the flags of a create: the last close wins',
};

test('only rows that there are are excluded', () => {
  expect(Object.keys(CHECKS)).toEqual(expect.arrayContaining(Object.keys(EXCLUDED)));
});

describeRows(
  ROWS.filter(({ id }) => EXCLUDED[id] === undefined),
  ['driver=portable'],
);

test('a crash ends the mount, and the next one takes its place', async () => {
  const server = await startServer({ options: ['driver=portable'] });
  await writeFile(server.path('f'), 'content');
  const pid = Number(/"pid":(\d+),[^\n]*"msg":"mounted"/.exec(server.log)?.[1]);
  process.kill(pid, 'SIGKILL');
  await eventually(() => expect(readFile(server.path('f'))).rejects.toMatchObject({ code: 'ENOTCONN' }), 10_000);
  await server.mount();
  expect(await readFile(server.path('f'), 'utf8')).toBe('content');
});
