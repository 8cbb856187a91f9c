/** Where a command prints. */
export interface Terminal {
  /** What was asked for. Without the final newline. */
  out(text: string): void;
  /** What the user should know, and progress. */
  note(text: string): void;
  /** Progress that replaces itself on a terminal, and is left out elsewhere. '' wipes it. */
  progress(text: string): void;
}

export const systemTerminal: Terminal = {
  out: (text) => void process.stdout.write(`${text}\n`),
  note: (text) => void process.stderr.write(`${text}\n`),
  progress: (text) => {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
  },
};

/** Text from elsewhere (bucket, daemon): unable to move the cursor of a terminal. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must go.
  return text.replace(/[\x00-\x1f\x7f-\x9f]/g, '?');
}
