import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createLogger, type Logger } from '../base/log.ts';
import { DEFAULTS, type MountConfig } from '../mount/config.ts';

/** Commands that work on the state of a mount log where its daemon does; where that is a terminal, to a file of the state directory. */
export async function commandLog(config: MountConfig): Promise<Logger> {
  const file = config.log.file ?? join(config.stateDirectory, 'commands.log');
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  return createLogger({ level: config.log.level, file, maxFileBytes: DEFAULTS.logFileLimitBytes });
}
