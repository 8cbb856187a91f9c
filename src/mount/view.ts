/** The second, read-only mount point of a mount (`ro_view`): the same file system, told to another kernel connection. */
import { closeSync } from 'node:fs';
import type { Logger } from '../base/log.ts';
import type { FileSystem } from '../fs/file-system.ts';
import { mountFuse, unmountFuse } from '../kernel/mount.ts';
import { type SessionStatus, startSession } from '../kernel/session.ts';
import type { MountConfig } from './config.ts';

export interface View {
  readonly mountpoint: string;
  /** `unmounted`: somebody took it away; the main mount goes on without it. */
  status(): { readonly state: 'mounted' | 'unmounted'; readonly kernel: SessionStatus };
  /** Unmounts. */
  close(): Promise<void>;
}

/** Rejects with the kernel layer's `MountError`. A view that an earlier worker left without a daemon is mounted anew. */
export async function mountView(
  config: MountConfig,
  mountpoint: string,
  fileSystem: FileSystem,
  log: Logger,
): Promise<View> {
  const { kernel } = config;
  const fd = await mountFuse({
    source: config.source,
    mountPoint: mountpoint,
    readOnly: true,
    allowOther: kernel.allowOther,
    defaultPermissions: kernel.defaultPermissions,
    noExec: kernel.noexec,
    noAtime: kernel.noatime,
  });
  const operations = fileSystem.view();
  const session = startSession({ fd, operations, log, passthrough: false, withoutOpens: true });
  fileSystem.connectView(operations.notifierOver(session.notifier));
  let isMounted = true;
  const ended = session.ended.then((end) => {
    isMounted = false;
    operations.close();
    closeSync(fd);
    if (end.reason === 'failed') log.error({ error: end.error, mountpoint }, 'the connection of the view failed');
    else log.info({ mountpoint }, 'the view has ended');
  });
  return {
    mountpoint,
    status: () => ({ state: isMounted ? 'mounted' : 'unmounted', kernel: session.status() }),
    close: async () => {
      if (isMounted) await unmountFuse(mountpoint, true);
      void session.stop();
      await ended;
    },
  };
}
