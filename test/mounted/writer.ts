/** A process that writes many small files: `node writer.ts DIR NAME COUNT`, into the ten directories `DIR/0` … `DIR/9`. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Contents differ in bytes and length, and a reader can tell what they should be. */
export function contentOf(name: string): string {
  return `${name}\n`.repeat(1 + ((name.charCodeAt(name.length - 1) * 7) % 256));
}

if (import.meta.main) {
  const [directory = '', writer = '', count = ''] = process.argv.slice(2);
  for (let i = 0; i < Number(count); i++) {
    const name = `${writer}-${i}`;
    writeFileSync(join(directory, String(i % 10), name), contentOf(name));
  }
}
