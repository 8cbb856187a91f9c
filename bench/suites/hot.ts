/** Hot reads: what a web server does with files that it served before. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { run } from '../../scripts/lib/programs.ts';
import { Recorder, type Suite } from '../suite.ts';
import type { MountedTarget } from '../targets.ts';

const FILES = 500;
const FILE_BYTES = 40 * 1024;
const CLIENTS = [1, 4];
const SAMPLE_MS = 1_000;
const WARM_UP_MS = 3_000;
const LIMIT_MS = 120_000;

export const suite: Suite = {
  name: 'hot',
  title: `open + fstat + read + close of ${FILES} warm files of ${FILE_BYTES / 1024} KB`,
  defaultRounds: 5,

  async run(lab, targets, { rounds, signal, progress }) {
    const program = await lab.cycleProgram();
    const content = new Map(Array.from({ length: FILES }, (_, i) => [`images/${i}.jpg`, randomBytes(FILE_BYTES)]));
    const recorder = new Recorder();
    const cyclesPerSecond = async ({ root }: MountedTarget, clients: number, durationMs: number) => {
      const args = [join(root, 'images'), String(clients), String(durationMs)];
      const { stdout } = await run(program, args, { limitMs: LIMIT_MS, signal });
      return (Number(stdout) * 1000) / durationMs;
    };

    const mounts = new Map<string, MountedTarget>();
    for (const target of targets) {
      progress(`${target.name}: mounting and warming up`);
      const mounted = await lab.mount(target, content);
      mounts.set(target.name, mounted);
      // Every file once at least, also where that takes long; then as long again for caches that need a second look.
      await run('sh', ['-c', 'cat "$1"/* >/dev/null', 'sh', join(mounted.root, 'images')], {
        limitMs: LIMIT_MS,
        signal,
      });
      await cyclesPerSecond(mounted, 1, WARM_UP_MS);
    }
    for (let round = 1; round <= rounds; round += 1) {
      progress(`round ${round} of ${rounds}`);
      for (const clients of CLIENTS) {
        const row = { name: `${clients} client${clients > 1 ? 's' : ''}`, unit: 'cycles/s', better: 'more' } as const;
        for (const [name, mounted] of mounts)
          recorder.add(row, name, await cyclesPerSecond(mounted, clients, SAMPLE_MS));
      }
    }
    return recorder.rows;
  },
};
