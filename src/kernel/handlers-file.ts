/** Open files. */

import { constants } from 'node:fs';
import type { NodeId } from '../base/ids.ts';
import type { Entry, OpenRecord, OpenReply, ReadReply, WritePayload } from './contract.ts';
import { answering, type Exchange, type Handler, last, writeNothing } from './handling.ts';
import {
  ERRNO,
  IN_HEADER_BYTES,
  MAX_TRANSFER_BYTES,
  OPEN_KILL_SUIDGID,
  Opcode,
  OpenFlag,
  WRITE_IN_BYTES,
  WRITE_KILL_SUIDGID,
} from './protocol.ts';
import { WireError } from './reader.ts';
import type { Request } from './request.ts';
import { writeCount, writeEntry, writeOpen } from './structs.ts';
import type { WireWriter } from './writer.ts';

/** COPY_FILE_RANGE answers with 32 bits; copies are cut to whole pages below that. */
const MAX_COPY_BYTES = 0xffff_f000;

/** Missing in `node:fs`. */
const O_ACCMODE = 3;

interface Opened {
  /** FOPEN_ flags. */
  readonly flags: number;
  readonly record: OpenRecord;
  readonly entry: Entry | undefined;
}

function writeOpened(out: WireWriter, { entry, flags, record }: Opened): void {
  if (entry !== undefined) writeEntry(out, entry);
  writeOpen(out, record.handle, flags, record.backingId);
}

function finishOpen(
  exchange: Exchange,
  request: Request,
  node: NodeId,
  openFlags: number,
  open: OpenReply,
  entry: Entry | undefined,
): void {
  const record = exchange.opens.add(request, node, openFlags, open.backingFd);
  replyOpened(exchange, request, record, open, entry);
}

function replyOpened(
  exchange: Exchange,
  request: Request,
  record: OpenRecord,
  open: OpenReply,
  entry: Entry | undefined,
): void {
  const direct = open.directIo === true ? OpenFlag.DIRECT_IO : 0;
  const mode = record.backingId > 0 ? OpenFlag.PASSTHROUGH : open.keepCache ? OpenFlag.KEEP_CACHE : 0;
  const flags = mode | direct | flushFlag(record.flags, entry);
  let opened = false;
  try {
    opened = exchange.reply(request, writeOpened, { flags, record, entry });
  } finally {
    if (!opened && exchange.opens.remove(record.node, record.handle)) {
      void exchange.operations.release(record.node, record.flags);
    }
  }
}

/** A descriptor that cannot have changed anything needs no FLUSH at close: one message less for each file served. */
function flushFlag(openFlags: number, created: Entry | undefined): number {
  const changes = O_ACCMODE | constants.O_TRUNC;
  return created === undefined && (openFlags & changes) === constants.O_RDONLY ? OpenFlag.NOFLUSH : 0;
}

/** What the page cache has is dropped, as nobody knows it here. */
const UNKNOWN_CACHE: OpenReply = { keepCache: false };

const open: Handler = (exchange, request, body) => {
  if (exchange.withoutOpens) return exchange.replyError(request, ERRNO.ENOSYS);
  const earlier = exchange.opens.find(request);
  if (earlier !== undefined) return replyOpened(exchange, request, earlier, UNKNOWN_CACHE, undefined);
  const flags = body.u32();
  const killPrivileges = (body.u32() & OPEN_KILL_SUIDGID) !== 0;
  const answer = exchange.operations.open(request, request.node, flags, killPrivileges);
  exchange.settle(request, answer, (reply) => finishOpen(exchange, request, request.node, flags, reply, undefined));
};

const flush: Handler = (exchange, request) => {
  if (exchange.withoutOpens) return exchange.replyError(request, ERRNO.ENOSYS);
  const answer = exchange.operations.flush(request, request.node);
  if (answer instanceof Promise) exchange.watch(request);
  exchange.settle(request, answer, () => exchange.reply(request, writeNothing, undefined));
};

const create: Handler = (exchange, request, body) => {
  const flags = body.u32();
  const mode = body.u32();
  body.skip(8); // umask (which the kernel has applied), open_flags
  const name = last(body, body.name());
  const earlier = exchange.opens.find(request);
  if (earlier !== undefined) return recreate(exchange, request, name, earlier);
  const answer = exchange.operations.create(request, request.node, name, mode, flags);
  exchange.settle(request, answer, ({ entry, open: reply }) =>
    finishOpen(exchange, request, entry.node, flags, reply, entry),
  );
};

/** An earlier process made and opened the file; only what it is must be told. */
function recreate(exchange: Exchange, request: Request, name: string, earlier: OpenRecord): void {
  exchange.settle(request, exchange.operations.lookup(request, request.node, name), (entry) => {
    if (entry.node === earlier.node) replyOpened(exchange, request, earlier, UNKNOWN_CACHE, entry);
    else exchange.replyError(request, ERRNO.ESTALE);
  });
}

/** A longer answer than asked would be refused by the kernel, and the reader would get EIO. */
function finishRead(exchange: Exchange, request: Request, reply: ReadReply, wantedBytes: number): void {
  if (reply.kind === 'file') {
    exchange.replyFile(request, reply.fd, reply.offset, Math.min(reply.lengthBytes, wantedBytes), reply.release);
  } else {
    exchange.replyMemory(request, cut(reply.pieces, wantedBytes), reply.release);
  }
}

function cut(pieces: readonly Uint8Array[], lengthBytes: number): Uint8Array[] {
  let leftBytes = lengthBytes;
  return pieces.map((piece) => {
    const kept = piece.subarray(0, leftBytes);
    leftBytes -= kept.length;
    return kept;
  });
}

const read: Handler = (exchange, request, body) => {
  body.skip(8); // fh
  const offset = body.u64();
  const wantedBytes = Math.min(body.u32(), MAX_TRANSFER_BYTES);
  const answer = exchange.operations.read(request, request.node, offset, wantedBytes);
  exchange.settle(request, answer, (reply) => finishRead(exchange, request, reply, wantedBytes));
};

/** The payload stays outside JavaScript until somebody asks for it. */
class HeldPayload implements WritePayload {
  readonly lengthBytes: number;
  readonly #exchange: Exchange;
  readonly #request: Request;

  constructor(exchange: Exchange, request: Request, lengthBytes: number) {
    this.#exchange = exchange;
    this.#request = request;
    this.lengthBytes = lengthBytes;
  }

  toFile(fd: number, offset: number): Promise<void> {
    return this.#exchange.writeFile(this.#request, fd, offset);
  }

  bytes(): Uint8Array {
    return this.#exchange.payload(this.#request);
  }
}

const write: Handler = (exchange, request, body) => {
  body.skip(8); // fh
  const offset = body.u64(ERRNO.EFBIG);
  const lengthBytes = body.u32();
  const killPrivileges = (body.u32() & WRITE_KILL_SUIDGID) !== 0;
  if (request.sizeBytes !== IN_HEADER_BYTES + WRITE_IN_BYTES + lengthBytes) throw new WireError('payload size differs');
  const payload = new HeldPayload(exchange, request, lengthBytes);
  const answer = exchange.operations.write(request, request.node, offset, payload, { killPrivileges });
  exchange.settle(request, answer, (count) => exchange.reply(request, writeCount, count));
};

/** The kernel has taken the file out of its mode already, so it is closed here before anybody is asked. */
const release: Handler = (exchange, request, body) => {
  const handle = body.u64();
  const flags = body.u32();
  const isCounted = exchange.opens.remove(request.node, handle);
  exchange.settle(request, isCounted ? exchange.operations.release(request.node, flags) : undefined, () =>
    exchange.reply(request, writeNothing, undefined),
  );
};

const allocate = answering((operations, request, body) => {
  body.skip(8); // fh
  const offset = body.u64(ERRNO.EFBIG);
  const lengthBytes = body.u64(ERRNO.EFBIG);
  return operations.allocate(request, request.node, offset, lengthBytes, body.u32());
}, writeNothing);

const seek = answering(
  (operations, request, body) => {
    body.skip(8); // fh
    const offset = body.u64(ERRNO.ENXIO);
    return operations.seek(request, request.node, offset, body.u32());
  },
  (out, offset) => out.u64(offset),
);

const copyRange = answering((operations, request, body) => {
  body.skip(8); // fh of the source
  const sourceOffset = body.u64();
  const target = body.u64() as NodeId;
  body.skip(8); // fh of the target
  const targetOffset = body.u64(ERRNO.EFBIG);
  const lengthBytes = Math.min(body.u64(), MAX_COPY_BYTES);
  return operations.copyRange(request, request.node, sourceOffset, target, targetOffset, lengthBytes);
}, writeCount);

export const fileHandlers: readonly (readonly [number, Handler])[] = [
  [Opcode.OPEN, open],
  [Opcode.CREATE, create],
  [Opcode.READ, read],
  [Opcode.WRITE, write],
  [Opcode.FLUSH, flush],
  [Opcode.FSYNC, answering((operations, request) => operations.fsync(request, request.node), writeNothing)],
  [Opcode.RELEASE, release],
  [Opcode.FALLOCATE, allocate],
  [Opcode.LSEEK, seek],
  [Opcode.COPY_FILE_RANGE, copyRange],
];
