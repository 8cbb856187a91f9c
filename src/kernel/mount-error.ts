export type MountFailure =
  | 'no-fuse'
  | 'no-permission'
  | 'no-fusermount'
  | 'no-mount-point'
  | 'not-a-directory'
  | 'already-mounted'
  | 'busy'
  | 'not-mounted'
  | 'failed';

/** Mounting or unmounting failed; the message is one sentence that says what to do. */
export class MountError extends Error {
  readonly failure: MountFailure;

  constructor(failure: MountFailure, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'MountError';
    this.failure = failure;
  }
}
