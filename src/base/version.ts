import { readFileSync } from 'node:fs';

/** Of this installation, from its package.json (two levels up, from `src/` and from `dist/`). */
export const VERSION: string = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version;
