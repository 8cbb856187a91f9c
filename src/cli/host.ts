/** Who runs a command. */
export interface Host {
  readonly uid: number;
  readonly gid: number;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export function thisHost(): Host {
  return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, environment: process.env };
}
