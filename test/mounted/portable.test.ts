/** The table of semantics with the portable driver, but for what libfuse 2 and its binding have no words for. */
import { expect, test } from 'vitest';
import { CHECKS, describeRows, ROWS } from './checks/rows.ts';

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
