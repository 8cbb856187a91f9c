/** Names: looking them up, making, moving and removing them. */
import type { NodeId } from '../base/ids.ts';
import { answering, type Handler, last, refusing, writeNothing } from './handling.ts';
import { ERRNO, MAX_SYMLINK_BYTES, Opcode, RENAME_NOREPLACE } from './protocol.ts';
import { type RequestReader, WireError } from './reader.ts';
import { writeEntry } from './structs.ts';
import type { WireWriter } from './writer.ts';

const S_IFMT = 0o170000;
const S_IFREG = 0o100000;

function writeText(out: WireWriter, text: string): void {
  out.text(text);
}

const makeSymlink = answering((operations, request, body) => {
  const name = body.name();
  const target = last(body, body.text(MAX_SYMLINK_BYTES));
  return operations.makeSymlink(request, request.node, name, target);
}, writeEntry);

const makeNode = answering((operations, request, body) => {
  const mode = body.u32();
  body.skip(12); // rdev, umask (which the kernel has applied), padding
  const name = last(body, body.name());
  if ((mode & S_IFMT) !== S_IFREG) throw new WireError('only regular files', ERRNO.EPERM);
  return operations.makeNode(request, request.node, name, mode);
}, writeEntry);

const makeDirectory = answering((operations, request, body) => {
  const mode = body.u32();
  body.skip(4); // umask
  return operations.makeDirectory(request, request.node, last(body, body.name()), mode);
}, writeEntry);

/** RENAME_EXCHANGE and RENAME_WHITEOUT are not possible. */
function renameFlags(body: RequestReader): { noReplace: boolean } {
  const flags = body.u32();
  body.skip(4);
  if ((flags & ~RENAME_NOREPLACE) !== 0) throw new WireError('unsupported rename flags');
  return { noReplace: flags !== 0 };
}

function rename(readFlags: (body: RequestReader) => { noReplace: boolean }): Handler {
  return answering((operations, request, body) => {
    const newParent = body.u64() as NodeId;
    const flags = readFlags(body);
    const name = body.name();
    const newName = last(body, body.name());
    return operations.rename(request, request.node, name, newParent, newName, flags);
  }, writeNothing);
}

export const namespaceHandlers: readonly (readonly [number, Handler])[] = [
  [
    Opcode.LOOKUP,
    answering(
      (operations, request, body) => operations.lookup(request, request.node, last(body, body.name())),
      writeEntry,
    ),
  ],
  [Opcode.READLINK, answering((operations, request) => operations.readLink(request, request.node), writeText)],
  [Opcode.SYMLINK, makeSymlink],
  [Opcode.MKNOD, makeNode],
  [Opcode.MKDIR, makeDirectory],
  [
    Opcode.UNLINK,
    answering(
      (operations, request, body) => operations.unlink(request, request.node, last(body, body.name())),
      writeNothing,
    ),
  ],
  [
    Opcode.RMDIR,
    answering(
      (operations, request, body) => operations.removeDirectory(request, request.node, last(body, body.name())),
      writeNothing,
    ),
  ],
  [Opcode.RENAME, rename(() => ({ noReplace: false }))],
  [Opcode.RENAME2, rename(renameFlags)],
  // An object has one name.
  [Opcode.LINK, refusing(ERRNO.EPERM)],
];
