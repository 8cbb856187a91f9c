/** What a process ends with. mount(8) wants other numbers: `scripts/install-helpers` makes helpers that translate. */
export const EXIT = { ok: 0, failure: 1, usage: 2, interrupted: 130 } as const;

/** A failure that the user is told about in one sentence. Anything else that is thrown is a defect and shows its stack. */
export class MountError extends Error {
  /** Whole, with a full stop, and free of secrets. */
  readonly sentence: string;
  readonly exitCode: number;

  constructor(sentence: string, exitCode: number = EXIT.failure, cause?: unknown) {
    super(sentence, cause === undefined ? undefined : { cause });
    this.name = 'MountError';
    this.sentence = sentence;
    this.exitCode = exitCode;
  }
}

/** The `code` of a Node system error (`ENOENT`, …), or undefined. */
export function systemCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}
