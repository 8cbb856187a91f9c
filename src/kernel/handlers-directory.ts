/** Listing directories. */
import type { Answer, OpenDirectoryReply } from './contract.ts';
import { DirectoryPacker } from './directory.ts';
import { answering, type Exchange, type Handler, writeNothing } from './handling.ts';
import { MAX_TRANSFER_BYTES, Opcode, OpenFlag } from './protocol.ts';
import type { Request } from './request.ts';
import { writeOpen } from './structs.ts';
import type { WireWriter } from './writer.ts';

function writeOpenDirectory(out: WireWriter, open: OpenDirectoryReply): void {
  const flags = (open.cache ? OpenFlag.CACHE_DIR : 0) | (open.keepCache ? OpenFlag.KEEP_CACHE : 0);
  writeOpen(out, 0, flags, 0);
}

function writePacked(out: WireWriter, packer: DirectoryPacker): void {
  out.bytes(packer.packed);
}

/**
 * What was packed before an error is still sent: each entry of READDIRPLUS is a lookup that the file system has counted
 * and the kernel will forget. The error comes back with the next request.
 */
async function packedDespite(listing: Promise<void>, packer: DirectoryPacker): Promise<void> {
  try {
    await listing;
  } catch (error) {
    if (packer.isEmpty) throw error;
  }
}

function pack(exchange: Exchange, request: Request, offset: number, packer: DirectoryPacker): Answer<void> {
  const { operations } = exchange;
  try {
    const listing = operations.readDirectory(request, request.node, offset, packer.withEntries, packer.add);
    return listing instanceof Promise ? packedDespite(listing, packer) : undefined;
  } catch (error) {
    if (packer.isEmpty) throw error;
  }
}

function readDirectory(withEntries: boolean): Handler {
  return (exchange, request, body) => {
    body.skip(8); // fh
    const offset = body.u64();
    const packer = new DirectoryPacker(Math.min(body.u32(), MAX_TRANSFER_BYTES), withEntries);
    exchange.settle(request, pack(exchange, request, offset, packer), () => {
      exchange.reply(request, writePacked, packer);
    });
  };
}

export const directoryHandlers: readonly (readonly [number, Handler])[] = [
  [
    Opcode.OPENDIR,
    answering((operations, request) => operations.openDirectory(request, request.node), writeOpenDirectory),
  ],
  [Opcode.READDIR, readDirectory(false)],
  [Opcode.READDIRPLUS, readDirectory(true)],
  [Opcode.RELEASEDIR, answering((operations, request) => operations.releaseDirectory(request.node), writeNothing)],
  [Opcode.FSYNCDIR, answering((operations, request) => operations.fsyncDirectory(request, request.node), writeNothing)],
];
