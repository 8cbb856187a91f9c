import { chmod, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { credentialsSpec } from '../../src/cli/resolve.ts';
import { loadCredentials } from '../../src/mount/credentials.ts';
import { MountError } from '../../src/mount/errors.ts';
import { modeFault, parsePasswdFile, SYSTEM_PASSWD_FILE } from '../../src/mount/passwd-file.ts';

const SECRET = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCY';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tsfs-keys-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

describe('passwd_file', () => {
  it('takes the line of the bucket before the general one', () => {
    const text = `# keys\n\nGENERAL:${SECRET}\n photos:OWN:${SECRET}2 \r\nother:NO:x\n`;
    expect(parsePasswdFile(text, 'photos', 'f')).toEqual({ accessKeyId: 'OWN', secretAccessKey: `${SECRET}2` });
    expect(parsePasswdFile(text, 'images', 'f')).toEqual({ accessKeyId: 'GENERAL', secretAccessKey: SECRET });
  });

  it.each([
    [`KEY${SECRET}`, 'Line 1 of the passwd_file f is not of the form KEY:SECRET or BUCKET:KEY:SECRET.'],
    [`a:b:c:${SECRET}`, 'Line 1 of the passwd_file f is not of the form KEY:SECRET or BUCKET:KEY:SECRET.'],
    [`:${SECRET}`, 'Line 1 of the passwd_file f is not of the form KEY:SECRET or BUCKET:KEY:SECRET.'],
    [`A:${SECRET}\nB:${SECRET}`, 'Line 2 of the passwd_file f is the second one for the same bucket.'],
    [`other:A:${SECRET}`, 'The passwd_file f has no line for the bucket photos.'],
    ['', 'The passwd_file f has no line for the bucket photos.'],
  ])('refuses %j', (text, sentence) => {
    expect(() => parsePasswdFile(text, 'photos', 'f')).toThrow(new MountError(sentence));
  });

  it('is never quoted in an error', () => {
    const line = fc.string({ minLength: 12 }).filter((text) => /^[!-~]+$/.test(text));
    fc.assert(
      fc.property(line, (text) => {
        try {
          parsePasswdFile(text, 'photos', 'f');
        } catch (error) {
          expect((error as Error).message).not.toContain(text);
        }
      }),
    );
  });

  it("has s3fs's rules for permissions", () => {
    expect([0o600, 0o400].map((mode) => modeFault(mode, '/k'))).toEqual([undefined, undefined]);
    expect(modeFault(0o640, SYSTEM_PASSWD_FILE)).toBeUndefined();
    for (const mode of [0o604, 0o602, 0o640, 0o620, 0o700]) expect(modeFault(mode, '/k')).toBeTypeOf('string');
    for (const mode of [0o660, 0o644, 0o650]) expect(modeFault(mode, SYSTEM_PASSWD_FILE)).toBeTypeOf('string');
  });
});

describe('loading', () => {
  const load = (path: string) => loadCredentials({ kind: 'passwdFile', path }, 'photos');

  it('reads a file that only its owner can read, and again when it changes', async () => {
    const path = join(directory, 'keys');
    await writeFile(path, 'A:1\n', { mode: 0o600 });
    const provider = await load(path);
    expect(await provider?.()).toMatchObject({ accessKeyId: 'A', secretAccessKey: '1', expiration: expect.any(Date) });
    await writeFile(path, 'B:2\n');
    await utimes(path, 1, 1);
    expect(await provider?.()).toMatchObject({ accessKeyId: 'B', secretAccessKey: '2' });
  });

  it('refuses files that are open to others, missing, or no files', async () => {
    const path = join(directory, 'keys');
    await writeFile(path, `A:${SECRET}\n`);
    await chmod(path, 0o644);
    await expect(load(path)).rejects.toThrow(`The passwd_file ${path} is open to other users; run: chmod 600 ${path}`);
    await expect(load(join(directory, 'none'))).rejects.toThrow('does not exist');
    await expect(load(directory)).rejects.toThrow('is not a file');
  });

  it("knows s3fs's names in the environment", async () => {
    const environment = { AWSACCESSKEYID: 'A', AWSSECRETACCESSKEY: 'S', AWSSESSIONTOKEN: 'T' };
    const spec = { kind: 'environment', tokenRequired: true } as const;
    const provider = await loadCredentials(spec, 'photos', environment);
    expect(await provider?.()).toEqual({ accessKeyId: 'A', secretAccessKey: 'S', sessionToken: 'T' });
    await expect(loadCredentials(spec, 'photos', { AWSACCESSKEYID: 'A' })).rejects.toThrow('set together');
    const withoutToken = { AWSACCESSKEYID: 'A', AWSSECRETACCESSKEY: 'S' };
    await expect(loadCredentials(spec, 'photos', withoutToken)).rejects.toThrow('AWSSESSIONTOKEN is not in');
  });

  it('signs nothing for a public bucket', async () => {
    expect(await loadCredentials({ kind: 'public' }, 'photos')).toBeUndefined();
  });
});

describe('where keys are looked for', () => {
  it('options before the environment before the usual file', async () => {
    const environment = { HOME: directory, AWSACCESSKEYID: 'A', AWSSECRETACCESSKEY: 'S' };
    const home = { HOME: directory };
    await writeFile(join(directory, '.passwd-s3fs'), 'A:1', { mode: 0o600 });
    expect(await credentialsSpec({ passwd_file: '/k' }, environment)).toEqual({ kind: 'passwdFile', path: '/k' });
    expect(await credentialsSpec({ public_bucket: true }, environment)).toEqual({ kind: 'public' });
    expect(await credentialsSpec({ iam_role: 'auto' }, environment)).toEqual({ kind: 'instance' });
    expect(await credentialsSpec({ ecs: true }, environment)).toEqual({ kind: 'container' });
    expect(await credentialsSpec({ profile: 'p' }, environment)).toEqual({ kind: 'profile', name: 'p' });
    expect(await credentialsSpec({}, environment)).toEqual({ kind: 'environment', tokenRequired: false });
    expect(await credentialsSpec({}, home)).toEqual({ kind: 'passwdFile', path: join(directory, '.passwd-s3fs') });
  });
});
