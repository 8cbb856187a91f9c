/**
 * A FUSE connection served by an implementation of `Operations`. Decodes what native threads bring, calls the operation,
 * answers once. An operation that answers without a promise is answered in the same turn.
 */
import { fstatSync } from 'node:fs';
import type { Logger } from '../base/log.ts';
import {
  backingClose,
  backingOpen,
  EVENT_HEADER_BYTES,
  EventKind,
  type NativeCounters,
  NativeSession,
} from './binding.ts';
import type { Answer, HotNodes, Notifier, OpenRecord, OpenRecords, Operations } from './contract.ts';
import { errnoName, systemError } from './errors.ts';
import { handlers } from './handlers.ts';
import type { Exchange } from './handling.ts';
import { HotTable } from './hot-table.ts';
import { Interrupts } from './interrupts.ts';
import { type Agreement, canResend, type InitRequest, negotiate, writeInit } from './negotiation.ts';
import { KernelNotifier, requestResend } from './notifier.ts';
import { Opens } from './opens.ts';
import { Passthrough, type PassthroughStatus } from './passthrough.ts';
import { ERRNO, InitFlag, MAX_TRANSFER_BYTES, Opcode, opcodeName } from './protocol.ts';
import { RequestReader, WireError } from './reader.ts';
import { Request, requestKey } from './request.ts';
import { WireWriter } from './writer.ts';

const READERS = 2;
const IO_THREADS = 4;
/** Beyond these, requests wait in the kernel. */
const MAX_REQUESTS = 4096;
const MAX_PAYLOAD_BYTES = 64 * 1024 * 1024;
/** To copy so much takes longer than to wake another thread. */
const HANDED_OVER_BYTES = 64 * 1024;
/** Errors of the kernel interface end here; `-512` and below are the kernel's own. */
const MAX_ERRNO = 511;

export interface SessionOptions {
  /** An open `/dev/fuse` with a mount behind it. Stays the caller's; may be closed after `ended`. */
  readonly fd: number;
  readonly operations: Operations;
  readonly log: Logger;
  /** A socket whose other side passes notifications on to the kernel. A process that wrote them itself could not be killed while it waits. */
  readonly notifyFd?: number | undefined;
  /**
   * A memfd where requests are kept until they are answered, for a successor that gets it too. Not used on kernels with FUSE_NOTIFY_RESEND.
   */
  readonly keptFd?: number | undefined;
  /** Use FUSE passthrough where an operation offers a backing file. Default true. */
  readonly passthrough?: boolean;
  /**
   * For read-only mounts: the first OPEN and the first FLUSH are answered with ENOSYS, which is final for the connection, and the kernel
   * sends neither them nor RELEASE any more. `open` is called only where the kernel cannot do without.
   */
  readonly withoutOpens?: boolean;
  /** An earlier process has begun to serve this connection, and has ended. */
  readonly inherits?: Inheritance | undefined;
  /** Told what a successor will have to know. */
  readonly legacy?: Legacy;
}

/** What an earlier process left. */
export interface Inheritance {
  /** undefined: it ended before it had answered INIT. */
  readonly agreement: Agreement | undefined;
  readonly opens: readonly OpenRecord[];
  /** Asked of each request that comes again, by `requestKey`: whether processes died of it. Then it is answered with EIO. */
  isDeadly?(key: number): boolean;
}

export interface Legacy {
  /** undefined: opens need not be known. */
  readonly opens?: OpenRecords | undefined;
  noteAgreement(agreement: Agreement): void;
}

export interface SessionStatus {
  /** As the kernel speaks it, `7.45`; undefined before INIT. */
  readonly protocol: string | undefined;
  readonly passthrough: PassthroughStatus;
  /** Operations that have not answered yet. */
  readonly inFlight: number;
  readonly notificationsDropped: number;
  readonly counters: NativeCounters;
}

export type SessionEnd =
  | { readonly reason: 'unmounted' }
  | { readonly reason: 'stopped' }
  | { readonly reason: 'failed'; readonly error: Error };

export interface KernelSession {
  readonly notifier: Notifier;
  readonly hotNodes: HotNodes;
  /** It can register backing files that `open` offers. */
  readonly takesBackingFiles: boolean;
  status(): SessionStatus;
  /** Serves no more requests; what is unanswered stays so, for a successor. Resolves with `ended`. */
  stop(): Promise<SessionEnd>;
  /** After it no operation is called, and the fd is used no more. */
  readonly ended: Promise<SessionEnd>;
}

/** @throws Error when the native addon is missing. */
export function startSession(options: SessionOptions): KernelSession {
  return new Session(options);
}

class Session implements KernelSession, Exchange {
  readonly operations: Operations;
  readonly opens: Opens;
  readonly notifier: KernelNotifier;
  readonly hotNodes: HotTable;
  readonly ended: Promise<SessionEnd>;
  readonly #passthrough: Passthrough;
  readonly #wantsNoOpens: boolean;
  readonly #noteAgreement: ((agreement: Agreement) => void) | undefined;
  readonly #isDeadly: (key: number) => boolean;
  readonly #log: Logger;
  readonly #native: NativeSession;
  readonly #out: WireWriter;
  readonly #events: readonly [DataView, DataView];
  readonly #readers: readonly [RequestReader, RequestReader];
  /** Requests that were not answered in their own turn, by `requestKey`. At most MAX_REQUESTS. */
  readonly #inFlight = new Map<number, Request>();
  /** Native jobs under way, by token: at most one or two for each request in flight. */
  readonly #jobs = new Map<number, (errno: number) => void>();
  readonly #interrupts = new Interrupts((request) => {
    if (this.#inFlight.has(request.key) && !request.handedOver) this.replyError(request, ERRNO.EINTR);
  });
  readonly #resolveEnded: (end: SessionEnd) => void;
  #nextToken = 1;
  #agreement: Agreement | undefined;
  #end: SessionEnd | undefined;
  #stopped = false;
  #destroyed = false;

  constructor(options: SessionOptions) {
    const { fd, log, inherits, legacy } = options;
    this.operations = options.operations;
    this.#log = log;
    this.#wantsNoOpens = options.withoutOpens ?? false;
    const backing = {
      open: (file: number) => backingOpen(fd, file),
      close: (id: number) => backingClose(fd, id),
      inodeOf: (file: number) => fstatSync(file).ino,
    };
    this.#passthrough = new Passthrough(backing, log, options.passthrough ?? true);
    this.#noteAgreement = legacy?.noteAgreement.bind(legacy);
    this.#isDeadly = inherits?.isDeadly?.bind(inherits) ?? (() => false);
    this.opens = new Opens({
      passthrough: this.#passthrough,
      records: legacy?.opens,
      inherited: inherits?.opens ?? [],
    });
    if (inherits?.agreement !== undefined) this.#agree(inherits.agreement);
    const agreed = inherits?.agreement;
    const resends = agreed !== undefined && canResend(agreed);
    // Before the first request is taken, or it would be sent twice. Before INIT nobody knows whether it works: it is INIT itself that is kept.
    if (inherits !== undefined && (resends || agreed === undefined)) requestResend(fd, log);
    if (agreed !== undefined && !resends && options.keptFd === undefined) {
      log.error('this kernel does not send requests again, nor did the guardian keep them: calls that had begun hang');
    }
    const { promise, resolve } = Promise.withResolvers<SessionEnd>();
    this.ended = promise;
    this.#resolveEnded = resolve;
    this.#native = new NativeSession({
      fd,
      readers: READERS,
      ioThreads: IO_THREADS,
      maxWriteBytes: MAX_TRANSFER_BYTES,
      maxRequests: MAX_REQUESTS,
      maxPayloadBytes: MAX_PAYLOAD_BYTES,
      openHandle: this.opens.plainHandle,
      notifyFd: options.notifyFd,
      keptFd: resends ? undefined : options.keptFd,
      onEvents: (buffer, lengthBytes) => this.#onEvents(buffer, lengthBytes),
    });
    const [first, second] = this.#native.events;
    this.#events = [new DataView(first), new DataView(second)];
    this.#readers = [new RequestReader(first), new RequestReader(second)];
    this.#out = new WireWriter(this.#native.outbox);
    this.notifier = new KernelNotifier(this.#native, this.#out, log);
    this.hotNodes = new HotTable(this.#native, this.#out, this.opens);
  }

  get withoutOpens(): boolean {
    return this.#wantsNoOpens && ((this.#agreement?.flags ?? 0) & InitFlag.NO_OPEN_SUPPORT) !== 0;
  }

  get takesBackingFiles(): boolean {
    return this.#passthrough.wanted;
  }

  status(): SessionStatus {
    const agreement = this.#agreement;
    return {
      protocol: agreement === undefined ? undefined : `${agreement.major}.${agreement.minor}`,
      passthrough: this.#passthrough.status(),
      inFlight: this.#inFlight.size,
      notificationsDropped: this.notifier.dropped,
      counters: this.#native.counters(),
    };
  }

  stop(): Promise<SessionEnd> {
    this.#finish({ reason: 'stopped' });
    return this.ended;
  }

  // Events

  #onEvents(buffer: 0 | 1, lengthBytes: number): void {
    const view = this.#events[buffer];
    for (let at = 0; at < lengthBytes; ) {
      const sizeBytes = view.getUint32(at, true);
      const kind = view.getUint32(at + 4, true);
      const token = view.getUint32(at + 8, true);
      const result = view.getInt32(at + 12, true);
      const body = at + EVENT_HEADER_BYTES;
      at = body + ((sizeBytes + 7) & ~7);
      if (kind === EventKind.request) {
        this.#onRequest(this.#readers[buffer].reset(body, body + sizeBytes), token, result === 1);
      } else if (kind === EventKind.jobDone) this.#onJobDone(token, result);
      else if (kind === EventKind.ended) this.#onEnded(result);
      else this.#onStopped();
    }
  }

  #onRequest(reader: RequestReader, slot: number, isKept: boolean): void {
    const request = new Request(reader, slot, isKept);
    try {
      const handler = handlers.get(request.opcode);
      if (request.isResent && this.#isDeadly(request.key)) this.#refuseDeadly(request);
      else if (handler === undefined) this.replyError(request, ERRNO.ENOSYS);
      else handler(this, request, reader);
    } catch (error) {
      this.#fail(request, error);
    }
  }

  #refuseDeadly(request: Request): void {
    const { node } = request;
    const operation = opcodeName(request.opcode);
    this.#log.error({ operation, node }, 'workers broke down one after the other with this request: it gets EIO');
    this.replyError(request, ERRNO.EIO);
  }

  #onJobDone(token: number, errno: number): void {
    const done = this.#jobs.get(token);
    this.#jobs.delete(token);
    done?.(errno);
  }

  #onEnded(errno: number): void {
    if (errno === 0) this.#finish({ reason: 'unmounted' });
    else this.#finish({ reason: 'failed', error: systemError(errno, 'read /dev/fuse') });
  }

  #finish(end: SessionEnd): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    this.notifier.stop();
    this.#native.stop();
  }

  /** The fd may be closed and its number reused from here on: nothing is sent any more. */
  #onStopped(): void {
    this.#stopped = true;
    this.#interrupts.stop();
    for (const request of this.#inFlight.values()) request.interrupt();
    this.#inFlight.clear();
    const end = this.#end ?? { reason: 'stopped' };
    if (end.reason === 'unmounted') this.destroy();
    this.#resolveEnded(end);
  }

  // Exchange: what handlers use

  settle<T>(request: Request, answer: Answer<T>, finish: (value: T) => void): void {
    if (!(answer instanceof Promise)) {
      finish(answer);
      return;
    }
    this.#inFlight.set(request.key, request);
    answer
      .then((value) => {
        if (!this.#stopped) finish(value);
      })
      .catch((error: unknown) => this.#fail(request, error));
  }

  watch(request: Request): void {
    this.#interrupts.watch(request);
  }

  reply<T>(request: Request, encode: (out: WireWriter, value: T) => void, value: T): boolean {
    this.#out.begin();
    encode(this.#out, value);
    return this.#send(request, 0);
  }

  replyError(request: Request, errno: number): void {
    this.#out.begin();
    this.#send(request, -errno);
  }

  replyFile(request: Request, fd: number, offset: number, lengthBytes: number, release: () => void): void {
    const { uniqueLow, uniqueHigh } = request;
    this.#handOver(request, release, (token) =>
      this.#native.replyFile(token, uniqueLow, uniqueHigh, fd, offset, lengthBytes),
    );
  }

  replyMemory(request: Request, pieces: readonly Uint8Array[], release: () => void): void {
    const { uniqueLow, uniqueHigh } = request;
    const lengthBytes = pieces.reduce((sum, { length }) => sum + length, 0);
    if (lengthBytes >= HANDED_OVER_BYTES) {
      this.#handOver(request, release, (token) => this.#native.replyMemory(token, uniqueLow, uniqueHigh, pieces));
      return;
    }
    this.reply(request, writePieces, pieces);
    release();
  }

  /** A native thread answers the request, and needs what `release` is for until then. */
  #handOver(request: Request, release: () => void, begin: (token: number) => boolean): void {
    if (request.answered) {
      release();
      return;
    }
    const token = this.#newToken();
    if (!begin(token)) {
      release();
      throw systemError(ERRNO.EAGAIN, 'reply from a native thread');
    }
    // In flight until the job is done, so that an interrupt finds it.
    this.#inFlight.set(request.key, request);
    request.handedOver = true;
    this.#jobs.set(token, (errno) => {
      request.handedOver = false;
      if (errno === 0) this.#close(request);
      else this.#fail(request, systemError(errno, 'pread'));
      release();
    });
  }

  writeFile(request: Request, fd: number, offset: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const token = this.#newToken();
    if (request.slot === 0 || request.answered || !this.#native.writeFile(token, request.slot, fd, offset)) {
      reject(systemError(ERRNO.EINVAL, 'pwrite of a payload that is gone'));
      return promise;
    }
    this.#jobs.set(token, (errno) => {
      if (errno === 0) resolve();
      else reject(systemError(errno, 'pwrite'));
    });
    return promise;
  }

  payload(request: Request): Uint8Array {
    if (request.slot === 0) return new Uint8Array(0);
    const bytes = this.#native.payload(request.slot);
    if (bytes === undefined) throw systemError(ERRNO.EINVAL, 'read of a payload that is gone');
    return bytes;
  }

  initialize(request: Request, init: InitRequest): void {
    const agreement = negotiate(init, this.#passthrough.wanted, this.#wantsNoOpens);
    if (agreement === undefined) {
      this.#log.error(
        { major: init.major, minor: init.minor },
        'this kernel is too old: Linux 5.4 or newer is needed, or the option driver=portable',
      );
      this.replyError(request, ERRNO.EPROTO);
      return;
    }
    this.#agree(agreement);
    if (canResend(agreement)) this.#native.keepNoMore();
    this.#noteAgreement?.(agreement);
    this.reply(request, writeInit, agreement);
  }

  #agree(agreement: Agreement): void {
    this.#agreement = agreement;
    this.#passthrough.negotiated(agreement.passthrough);
  }

  /**
   * A request that is not in flight has been answered, or has not come yet because another thread still carries it.
   * EAGAIN makes the kernel repeat the interrupt while it waits for that request, and means nothing otherwise.
   */
  interrupt(uniqueLow: number, uniqueHigh: number, request: Request): void {
    const target = this.#inFlight.get(requestKey(uniqueLow, uniqueHigh));
    if (target === undefined) {
      this.replyError(request, ERRNO.EAGAIN);
      return;
    }
    target.interrupt();
    this.#interrupts.note(target);
  }

  /** The kernel says DESTROY to some mounts before it ends them, and to most it does not. */
  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.operations.destroy();
  }

  // Answers

  #fail(request: Request, error: unknown): void {
    const errno = error instanceof WireError ? error.errno : this.#errnoOf(error);
    if (errno === ERRNO.EIO) {
      this.#log.error({ err: error, operation: opcodeName(request.opcode), node: request.node }, 'operation failed');
    }
    if (!EXPECT_NO_REPLY.has(request.opcode)) this.replyError(request, errno);
  }

  #errnoOf(error: unknown): number {
    try {
      const errno = this.operations.errnoOf(error);
      return Number.isInteger(errno) && errno > 0 && errno <= MAX_ERRNO ? errno : ERRNO.EIO;
    } catch (defect) {
      this.#log.error({ err: defect }, 'errnoOf failed');
      return ERRNO.EIO;
    }
  }

  #send(request: Request, error: number): boolean {
    if (request.answered || this.#stopped) return false;
    this.#close(request);
    const sizeBytes = this.#out.finish(error, request.uniqueLow, request.uniqueHigh);
    const errno = this.#native.reply(sizeBytes, request.opcode !== Opcode.INTERRUPT);
    if (errno === 0) return true;
    // ENOENT: given up by the caller. ENODEV: unmounted.
    if (errno !== ERRNO.ENOENT && errno !== ERRNO.ENODEV) {
      const operation = opcodeName(request.opcode);
      this.#log.error({ reason: errnoName(errno), operation }, 'the kernel refused a reply');
    }
    return false;
  }

  #close(request: Request): void {
    request.answered = true;
    this.#inFlight.delete(request.key);
    if (request.slot !== 0) this.#native.releasePayload(request.slot);
  }

  #newToken(): number {
    do this.#nextToken = (this.#nextToken + 1) >>> 0;
    while (this.#jobs.has(this.#nextToken));
    return this.#nextToken;
  }
}

function writePieces(out: WireWriter, pieces: readonly Uint8Array[]): void {
  for (const piece of pieces) out.bytes(piece);
}

const EXPECT_NO_REPLY: ReadonlySet<number> = new Set([
  Opcode.FORGET,
  Opcode.BATCH_FORGET,
  Opcode.INTERRUPT,
  Opcode.NOTIFY_REPLY,
]);
