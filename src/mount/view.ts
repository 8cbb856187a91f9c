/** The second, read-only mount point of a mount (`ro_view`): the same file system, told to another kernel connection. */
import { closeSync } from 'node:fs';
import type { Logger } from '../base/log.ts';
import type { FileSystem } from '../fs/file-system.ts';
import type { Index } from '../index/contract.ts';
import { mountFuse, unmountFuse } from '../kernel/mount.ts';
import { raiseReadAhead } from '../kernel/read-ahead.ts';
import { type SessionStatus, startSession } from '../kernel/session.ts';
import type { MountConfig } from './config.ts';
import type { Guardian } from './guardian.ts';
import { inheritance, legacy } from './heritage.ts';

export interface View {
  readonly mountpoint: string;
  /** `unmounted`: somebody took it away; the main mount goes on without it. */
  status(): { readonly state: 'mounted' | 'unmounted'; readonly kernel: SessionStatus | undefined };
  /** `unmount`: it ends with the mount. `leave`: another worker goes on with it. */
  close(how: 'unmount' | 'leave'): Promise<void>;
}

export interface ViewParts {
  readonly mountpoint: string;
  readonly fileSystem: FileSystem;
  readonly index: Index;
  readonly guardian: Guardian;
  readonly log: Logger;
}

/** Mounts the view, or goes on with that of an earlier worker. Rejects with the kernel layer's `MountError`. */
export async function openView(config: MountConfig, parts: ViewParts): Promise<View> {
  const { mountpoint, fileSystem, index, guardian, log } = parts;
  const { view: connection, crashes } = guardian;
  if (connection.state === 'ended') return takenAway(mountpoint);
  const continues = connection.state === 'mounted';
  const fd = continues ? connection.fd : await mount(config, mountpoint, connection.fd);
  if (!continues) await raiseReadAhead(mountpoint, log);
  const operations = fileSystem.view(continues);
  const session = startSession({
    fd,
    operations,
    log,
    passthrough: false,
    withoutOpens: true,
    notifyFd: connection.notifyFd,
    keptFd: connection.keptFd,
    inherits: continues ? inheritance(index, 'view', crashes) : undefined,
    legacy: legacy(index, 'view'),
  });
  const hotNodes = config.kernel.hotTable ? session.hotNodes : undefined;
  fileSystem.connectView(operations.notifierOver(session.notifier), hotNodes);
  let isMounted = true;
  const ended = session.ended.then((end) => {
    isMounted = false;
    operations.close();
    closeSync(fd);
    if (end.reason === 'failed') log.error({ error: end.error, mountpoint }, 'the connection of the view failed');
    else if (end.reason === 'unmounted') log.info({ mountpoint }, 'the view has ended');
  });
  return {
    mountpoint,
    status: () => ({ state: isMounted ? 'mounted' : 'unmounted', kernel: session.status() }),
    close: async (how) => {
      if (isMounted && how === 'unmount') await unmountFuse(mountpoint, true);
      void session.stop();
      await ended;
    },
  };
}

function mount(config: MountConfig, mountPoint: string, deviceFd: number | undefined): Promise<number> {
  const { allowOther, defaultPermissions, noexec: noExec, noatime: noAtime } = config.kernel;
  const options = { readOnly: true, allowOther, defaultPermissions, noExec, noAtime };
  return mountFuse({ source: config.source, mountPoint, deviceFd, ...options });
}

/** Before this worker began. */
function takenAway(mountpoint: string): View {
  const status = { state: 'unmounted', kernel: undefined } as const;
  return { mountpoint, status: () => status, close: () => Promise.resolve() };
}
