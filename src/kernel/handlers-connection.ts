/** Requests about the connection itself, most of which expect no reply. */
import type { NodeId } from '../base/ids.ts';
import { answering, type Exchange, type Handler, refusing } from './handling.ts';
import { readInit } from './negotiation.ts';
import { ERRNO, Opcode } from './protocol.ts';
import type { RequestReader } from './reader.ts';
import { writeFileSystemStatus } from './structs.ts';

const FORGET_ONE_BYTES = 16;

function batchForget(exchange: Exchange, body: RequestReader): void {
  const count = body.u32();
  body.skip(4);
  // A count beyond the request would be a defect of the kernel; what is there is still forgotten.
  for (let i = 0; i < count && body.remainingBytes >= FORGET_ONE_BYTES; i += 1) {
    const node = body.u64() as NodeId;
    exchange.operations.forget(node, body.u64());
  }
}

export const connectionHandlers: readonly (readonly [number, Handler])[] = [
  [Opcode.INIT, (exchange, request, body) => exchange.initialize(request, readInit(body))],
  [
    Opcode.DESTROY,
    (exchange, request) => {
      exchange.reply(request, () => undefined, undefined);
      exchange.destroy();
    },
  ],
  [Opcode.FORGET, (exchange, request, body) => exchange.operations.forget(request.node, body.u64())],
  [Opcode.BATCH_FORGET, (exchange, _request, body) => batchForget(exchange, body)],
  [Opcode.INTERRUPT, (exchange, request, body) => exchange.interrupt(body.u32(), body.u32(), request)],
  // The answer to a FUSE_NOTIFY_RETRIEVE, which is never sent.
  [Opcode.NOTIFY_REPLY, () => undefined],
  [Opcode.STATFS, answering((operations, request) => operations.statFileSystem(request), writeFileSystemStatus)],
  // ENOSYS would say "this kernel has no such ioctl" to every program that asks whether a file is a terminal.
  [Opcode.IOCTL, refusing(ERRNO.ENOTTY)],
];
