/** Attributes and extended attributes. */
import { answering, type Exchange, type Handler, last, writeNothing } from './handling.ts';
import { ERRNO, MAX_NAME_BYTES, Opcode } from './protocol.ts';
import { WireError } from './reader.ts';
import type { Request } from './request.ts';
import { readAttributeChange, writeAttributesReply, writeCount } from './structs.ts';
import type { WireWriter } from './writer.ts';

/** XATTR_SIZE_MAX of the kernel. */
const MAX_XATTR_BYTES = 65_536;

function writeBytes(out: WireWriter, value: Uint8Array): void {
  out.bytes(value);
}

/** The kernel asks with size 0 for the size alone. */
function replyXattr(exchange: Exchange, request: Request, wantedBytes: number, value: Uint8Array): void {
  if (wantedBytes === 0) exchange.reply(request, writeCount, value.length);
  else if (value.length > wantedBytes) exchange.replyError(request, ERRNO.ERANGE);
  else exchange.reply(request, writeBytes, value);
}

const getXattr: Handler = (exchange, request, body) => {
  const wantedBytes = body.u32();
  body.skip(4);
  const name = last(body, body.text(MAX_NAME_BYTES));
  exchange.settle(request, exchange.operations.getXattr(request, request.node, name), (value) =>
    replyXattr(exchange, request, wantedBytes, value),
  );
};

const listXattrs: Handler = (exchange, request, body) => {
  const wantedBytes = body.u32();
  exchange.settle(request, exchange.operations.listXattrs(request, request.node), (names) =>
    replyXattr(exchange, request, wantedBytes, Buffer.from(names.map((name) => `${name}\0`).join(''))),
  );
};

const setXattr = answering((operations, request, body) => {
  const sizeBytes = body.u32();
  const flags = body.u32();
  const name = body.text(MAX_NAME_BYTES);
  if (sizeBytes > MAX_XATTR_BYTES) throw new WireError('value too large', ERRNO.E2BIG);
  return operations.setXattr(request, request.node, name, last(body, body.bytes(sizeBytes)), flags);
}, writeNothing);

export const attributeHandlers: readonly (readonly [number, Handler])[] = [
  [
    Opcode.GETATTR,
    answering((operations, request) => operations.getAttributes(request, request.node), writeAttributesReply),
  ],
  [
    Opcode.SETATTR,
    answering(
      (operations, request, body) => operations.setAttributes(request, request.node, readAttributeChange(body)),
      writeAttributesReply,
    ),
  ],
  [
    Opcode.ACCESS,
    answering((operations, request, body) => operations.access(request, request.node, body.u32()), writeNothing),
  ],
  [Opcode.GETXATTR, getXattr],
  [Opcode.LISTXATTR, listXattrs],
  [Opcode.SETXATTR, setXattr],
  [
    Opcode.REMOVEXATTR,
    answering(
      (operations, request, body) =>
        operations.removeXattr(request, request.node, last(body, body.text(MAX_NAME_BYTES))),
      writeNothing,
    ),
  ],
];
