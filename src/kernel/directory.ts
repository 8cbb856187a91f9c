import type { DirectoryEntry } from './contract.ts';
import { ENTRY_OUT_BYTES, writeEntry } from './structs.ts';
import { WireWriter } from './writer.ts';

const DIRENT_BYTES = 24;

/** Packs entries as READDIR (struct fuse_dirent) or READDIRPLUS (struct fuse_direntplus) wants them: 8-byte aligned. */
export class DirectoryPacker {
  readonly withEntries: boolean;
  readonly #out: WireWriter;

  constructor(sizeBytes: number, withEntries: boolean) {
    this.#out = new WireWriter(Buffer.allocUnsafe(sizeBytes));
    this.withEntries = withEntries;
  }

  get isEmpty(): boolean {
    return this.#out.sizeBytes === 0;
  }

  get packed(): Buffer {
    return this.#out.written;
  }

  /** False: no room, and nothing was written. */
  readonly add = (entry: DirectoryEntry): boolean => {
    const out = this.#out;
    const nameBytes = Buffer.byteLength(entry.name);
    const unpadded = (this.withEntries ? ENTRY_OUT_BYTES : 0) + DIRENT_BYTES + nameBytes;
    const padded = (unpadded + 7) & ~7;
    if (padded > out.capacityBytes - out.sizeBytes) return false;
    if (this.withEntries) this.#addEntry(entry);
    out.big64(entry.ino);
    out.u64(entry.nextOffset);
    out.u32(nameBytes);
    out.u32((entry.typeMode >>> 12) & 0xf); // DT_* is the type nibble of st_mode
    out.text(entry.name);
    out.zeros(padded - unpadded);
    return true;
  };

  /** Node id 0 means: a name only, no dentry. The kernel must never make dentries of `.` and `..`. */
  #addEntry({ name, entry }: DirectoryEntry): void {
    if (entry === undefined || name === '.' || name === '..') {
      this.#out.zeros(ENTRY_OUT_BYTES);
    } else {
      writeEntry(this.#out, entry);
    }
  }
}
