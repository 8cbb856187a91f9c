/** A web server that serves hot files from the mount. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findProgram } from '../../scripts/lib/programs.ts';
import { HELD_OPEN, imageScript, requestsPerSecond, startNginx, type WebServer } from '../nginx.ts';
import { Recorder, type Sizes, type Suite } from '../suite.ts';
import { IMAGE_BYTES, mountWarm } from '../warm.ts';

const CONNECTIONS = 8;
/** wrk knows whole seconds. */
const LAP_MS = 1_000;
const WAYS = [
  { name: 'requests', path: '' },
  { name: 'requests, with open_file_cache', path: HELD_OPEN },
] as const;
const filesOf = ({ quick }: Sizes) => (quick ? 50 : 500);

export const suite: Suite = {
  name: 'nginx',
  title: (sizes) =>
    `nginx (sendfile, one worker) serves ${filesOf(sizes)} hot files of ${IMAGE_BYTES / 1024} KB to wrk, ` +
    `${CONNECTIONS} keep-alive connections`,
  defaultRounds: 5,
  minutes: 5,
  isDefault: true,
  takes: () => true,

  async run(lab, field, options) {
    for (const program of ['nginx', 'wrk']) {
      if ((await findProgram(program)) === undefined) throw new Error(`${program} is not installed`);
    }
    const { rounds, quick, signal } = options;
    const recorder = new Recorder();
    const ways = WAYS.map((way, number) => ({ ...way, script: join(lab.scratch, `images-${number}.lua`) }));
    for (const { script, path } of ways) await writeFile(script, imageScript(filesOf(options), path));
    field.plan(2 + rounds);
    const mounts = await mountWarm(lab, field, { ...options, files: filesOf(options) });
    const servers = new Map<string, WebServer>();
    const load = { connections: CONNECTIONS, signal };
    try {
      await field.each('starting nginx', async ({ name }) => {
        const root = mounts.get(name)?.root;
        if (root === undefined) return;
        const server = await startNginx(root, join(lab.scratch, `nginx-${name}`));
        servers.set(name, server);
      });
      for (let round = 1; round <= rounds; round += 1) {
        await field.each(`round ${round} of ${rounds}`, async ({ name }) => {
          const server = servers.get(name);
          if (server === undefined) return;
          for (const { name: row, script } of ways) {
            const durationMs = quick ? 1_000 : 3_000;
            // A lap that is not counted: what was believed to be true has expired while others were measured.
            await requestsPerSecond(server.url, { ...load, script, durationMs: LAP_MS });
            const perSecond = await requestsPerSecond(server.url, { ...load, script, durationMs });
            recorder.add({ name: row, unit: '/s', better: 'more', headline: true }, name, perSecond);
          }
        });
      }
    } finally {
      // Before the mounts go: it holds files of theirs.
      await Promise.all([...servers.values()].map((server) => server.stop()));
    }
    return recorder.rows;
  },
};
