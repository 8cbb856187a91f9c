/** From opcode to operation: decode the body, call, encode the answer. One line for each where nothing else happens. */
import { attributeHandlers } from './handlers-attributes.ts';
import { connectionHandlers } from './handlers-connection.ts';
import { directoryHandlers } from './handlers-directory.ts';
import { fileHandlers } from './handlers-file.ts';
import { namespaceHandlers } from './handlers-namespace.ts';
import type { Handler } from './handling.ts';

const FAMILIES = [connectionHandlers, namespaceHandlers, attributeHandlers, fileHandlers, directoryHandlers];

/** By opcode. What is not here is answered ENOSYS, upon which the kernel does without. */
export const handlers: ReadonlyMap<number, Handler> = new Map(FAMILIES.flat());
