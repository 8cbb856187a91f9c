/** umount(8), for hosts without the native addon. */
import { execFile } from 'node:child_process';
import { MountError } from './mount-error.ts';

const PROGRAM = 'umount';
const TIMEOUT_MS = 20_000;

export type UmountFlag = '--lazy' | '--force';

/** Needs root. @throws MountError */
export function runUmount(path: string, flags: readonly UmountFlag[]): Promise<void> {
  const options = { timeout: TIMEOUT_MS, env: { PATH: process.env.PATH, LC_ALL: 'C' } };
  return new Promise((resolve, reject) => {
    execFile(PROGRAM, [...flags, '--', path], options, (error, _output, message) => {
      if (error === null) resolve();
      else if (/busy/.test(message)) {
        reject(new MountError('busy', `${path} is in use: close the files in it, or unmount lazily`));
      } else if (/not mounted|no mount point|not found/.test(message)) {
        reject(new MountError('not-mounted', `${path} is not a mount point`));
      } else reject(new MountError('failed', `${path} could not be unmounted: ${message.trim() || error.message}`));
    });
  });
}
