/** What a handler is given. */
import type { Answer, Operations } from './contract.ts';
import type { InitRequest } from './negotiation.ts';
import type { Opens } from './opens.ts';
import { type RequestReader, WireError } from './reader.ts';
import type { Request } from './request.ts';
import type { WireWriter } from './writer.ts';

/** The session, as handlers see it. Each request is answered once; answering it again does nothing. */
export interface Exchange {
  readonly operations: Operations;
  readonly opens: Opens;
  /** The kernel is told that it need not open files. */
  readonly withoutOpens: boolean;
  /** Calls `finish` with the answer (at once when it is no promise), or answers with the error. */
  settle<T>(request: Request, answer: Answer<T>, finish: (value: T) => void): void;
  /** The caller may be killed while the request is in flight, and the kernel would not tell. */
  watch(request: Request): void;
  /** Answers with what `encode` writes. Returns whether the kernel took it. */
  reply<T>(request: Request, encode: (out: WireWriter, value: T) => void, value: T): boolean;
  replyError(request: Request, errno: number): void;
  replyFile(request: Request, fd: number, offset: number, lengthBytes: number, release: () => void): void;
  replyMemory(request: Request, pieces: readonly Uint8Array[], release: () => void): void;
  /** Writes a request's payload to a file. */
  writeFile(request: Request, fd: number, offset: number): Promise<void>;
  payload(request: Request): Uint8Array;
  /** Answers INIT. */
  initialize(request: Request, init: InitRequest): void;
  interrupt(uniqueLow: number, uniqueHigh: number, request: Request): void;
  /** The kernel has unmounted. */
  destroy(): void;
}

/** May throw: a WireError answers with its errno. */
export type Handler = (exchange: Exchange, request: Request, body: RequestReader) => void;

/** The plain case: `call` decodes and asks the file system, `encode` writes its answer. */
export function answering<T>(
  call: (operations: Operations, request: Request, body: RequestReader) => Answer<T>,
  encode: (out: WireWriter, value: T) => void,
): Handler {
  return (exchange, request, body) =>
    exchange.settle(request, call(exchange.operations, request, body), (value) =>
      exchange.reply(request, encode, value),
    );
}

/** For operations that answer with nothing but success. */
export function writeNothing(): void {
  // The header alone is the answer.
}

export function refusing(errno: number): Handler {
  return (exchange, request) => exchange.replyError(request, errno);
}

/** The last field of a request: anything behind it means that both sides disagree on its layout. */
export function last<T>(body: RequestReader, value: T): T {
  if (body.remainingBytes > 0) throw new WireError('request too long');
  return value;
}
