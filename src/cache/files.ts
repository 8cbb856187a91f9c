/**
 * The files of the cache directory and their descriptors. `hh/hh/<id>`: ids that are allocated one after the other share
 * a directory. Every call copes with a directory that somebody empties at the same time.
 */
import { constants, fstat as fstatCallback } from 'node:fs';
import { copyFile, type FileHandle, mkdir, open, rename, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { Clock } from '../base/clock.ts';
import type { ContentId } from '../base/ids.ts';
import { removeFile } from '../base/remove-file.ts';

const fstat = promisify(fstatCallback);

/** Descriptors kept open without a user. */
const IDLE_FILES_MAX = 256;
/** How long an open descriptor is believed to be the file that the path names. */
const RECHECK_MS = 1000;

export interface CacheFile {
  readonly handle: FileHandle;
  /** The same file past the page cache, once somebody wants that. */
  direct: Promise<FileHandle | undefined> | undefined;
  leases: number;
  checkedAtMs: number;
  /** No longer what the path names; closed with the last lease. */
  detached: boolean;
}

export function errorCode(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code;
}

export class CacheFiles {
  readonly #directory: string;
  readonly #clock: Clock;
  /** Least recently used first. */
  readonly #open = new Map<ContentId, CacheFile>();
  readonly #opening = new Map<ContentId, Promise<CacheFile | undefined>>();
  readonly #removing = new Map<ContentId, Promise<void>>();
  /** The file system has said no to O_DIRECT. */
  #refusesDirect = false;
  #device: { readonly number: number; readonly askedAtMs: number } | undefined;

  constructor(directory: string, clock: Clock) {
    this.#directory = directory;
    this.#clock = clock;
  }

  get openFiles(): number {
    return this.#open.size;
  }

  path(id: ContentId): string {
    const hex = (value: number) => (Math.floor(value) % 256).toString(16).padStart(2, '0');
    return join(this.#directory, hex(id / 65536), hex(id / 256), String(id));
  }

  isLeased(id: ContentId): boolean {
    return (this.#open.get(id)?.leases ?? 0) > 0;
  }

  /**
   * Takes a lease on the content's file. `existing`: undefined when the file is gone. `create`: an empty file is made where
   * none is open. Rejects with the errors of open(2).
   */
  async acquire(id: ContentId, mode: 'existing' | 'create'): Promise<CacheFile | undefined> {
    for (;;) {
      const file = this.#open.get(id);
      if (file !== undefined) {
        file.leases += 1;
        if (await this.#isCurrent(file)) {
          this.#open.delete(id);
          this.#open.set(id, file);
          return file;
        }
        this.#detach(id, file);
        this.release(file);
        if (mode === 'existing') return undefined;
      }
      await this.#removing.get(id);
      const opened = await this.#openShared(id, mode);
      if (opened === undefined) return undefined;
      // Somebody else may have had the file closed or removed in between: look again.
      if (this.#open.get(id) === opened) {
        opened.leases += 1;
        return opened;
      }
    }
  }

  /** Of a leased file: to write whole pages of memory past the page cache. undefined: its file system knows no such thing. */
  async direct(file: CacheFile): Promise<FileHandle | undefined> {
    if (this.#refusesDirect) return undefined;
    file.direct ??= this.#openDirect(file);
    return file.direct;
  }

  refuseDirect(): void {
    this.#refusesDirect = true;
  }

  release(file: CacheFile): void {
    file.leases -= 1;
    if (file.leases > 0) return;
    if (file.detached) dismiss(file);
    else this.#trim();
  }

  /** Deletes the file; resolves when its space is free, unless somebody still reads from it. Rejects with errors of unlink(2). */
  remove(id: ContentId): Promise<void> {
    const removal = this.#remove(id).finally(() => {
      if (this.#removing.get(id) === removal) this.#removing.delete(id);
    });
    this.#removing.set(id, removal);
    return removal;
  }

  /** Makes the file at `source` the content's file: by rename, or by copy from another file system. */
  async place(id: ContentId, source: string): Promise<void> {
    const target = this.path(id);
    try {
      await withDirectory(target, () => rename(source, target));
    } catch (error) {
      if (errorCode(error) !== 'EXDEV') throw error;
      await copyFile(source, target, constants.COPYFILE_FICLONE);
      await removeFile(source);
    }
  }

  /** Moves the content's file there. False when that is not the open one, or another file system. Rejects with errors of rename(2). */
  async moveOut(id: ContentId, target: string, fd: number): Promise<boolean> {
    const path = this.path(id);
    try {
      const [named, known] = await Promise.all([stat(path), fstat(fd)]);
      if (named.ino !== known.ino || named.dev !== known.dev) return false;
      await rename(path, target);
    } catch (error) {
      if (errorCode(error) === 'ENOENT' || errorCode(error) === 'EXDEV') return false;
      throw error;
    }
    const file = this.#open.get(id);
    if (file !== undefined) this.#detach(id, file);
    if (file?.leases === 0) dismiss(file);
    return true;
  }

  /** Of the cache's file system, as stat(2) tells it: from files on the same one a rename would do. */
  async device(): Promise<number> {
    const nowMs = this.#clock.monotonicMs();
    if (this.#device === undefined || nowMs - this.#device.askedAtMs > RECHECK_MS) {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      this.#device = { number: (await stat(this.#directory)).dev, askedAtMs: nowMs };
    }
    return this.#device.number;
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.#opening.values(), ...this.#removing.values()]);
    const files = [...this.#open];
    for (const [id, file] of files) this.#detach(id, file);
    await Promise.all(files.map(([, file]) => (file.leases === 0 ? closeFile(file) : undefined)));
  }

  async #isCurrent(file: CacheFile): Promise<boolean> {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - file.checkedAtMs < RECHECK_MS) return true;
    const { nlink } = await file.handle.stat();
    file.checkedAtMs = nowMs;
    return nlink > 0 && !file.detached;
  }

  async #openShared(id: ContentId, mode: 'existing' | 'create'): Promise<CacheFile | undefined> {
    const running = this.#opening.get(id);
    if (running !== undefined) return running;
    const opening = this.#openFile(id, mode).finally(() => this.#opening.delete(id));
    this.#opening.set(id, opening);
    return opening;
  }

  async #openFile(id: ContentId, mode: 'existing' | 'create'): Promise<CacheFile | undefined> {
    let handle: FileHandle;
    try {
      handle = await this.#openHandle(this.path(id), mode);
    } catch (error) {
      if (mode === 'existing' && errorCode(error) === 'ENOENT') return undefined;
      throw error;
    }
    const file = { handle, direct: undefined, leases: 0, checkedAtMs: this.#clock.monotonicMs(), detached: false };
    this.#open.set(id, file);
    return file;
  }

  /** By its descriptor, as the path may be another file by now. */
  async #openDirect({ handle }: CacheFile): Promise<FileHandle | undefined> {
    try {
      return await open(`/proc/self/fd/${handle.fd}`, constants.O_WRONLY | constants.O_DIRECT);
    } catch {
      this.refuseDirect();
      return undefined;
    }
  }

  async #openHandle(path: string, mode: 'existing' | 'create'): Promise<FileHandle> {
    const flags = constants.O_RDWR | constants.O_NOFOLLOW;
    if (mode === 'existing') return open(path, flags);
    // Not truncated: what an older file of that name holds, no checksum vouches for.
    return withDirectory(path, () => open(path, flags | constants.O_CREAT, 0o600));
  }

  #detach(id: ContentId, file: CacheFile): void {
    file.detached = true;
    if (this.#open.get(id) === file) this.#open.delete(id);
  }

  async #remove(id: ContentId): Promise<void> {
    await this.#opening.get(id);
    const file = this.#open.get(id);
    if (file !== undefined) this.#detach(id, file);
    await removeFile(this.path(id));
    if (file !== undefined && file.leases === 0) await closeFile(file);
  }

  #trim(): void {
    if (this.#open.size <= IDLE_FILES_MAX) return;
    for (const [id, file] of this.#open) {
      if (file.leases > 0) continue;
      this.#detach(id, file);
      dismiss(file);
      return;
    }
  }
}

/** Makes the directory of the path where it is missing. */
async function withDirectory<T>(path: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    return act();
  }
}

async function closeFile({ handle, direct }: CacheFile): Promise<void> {
  await (await direct)?.close();
  await handle.close();
}

/** A close that fails loses nothing: checksums vouch for every block. */
function dismiss(file: CacheFile): void {
  closeFile(file).catch(() => {});
}
