import { writeSync } from 'node:fs';
import type { NodeId } from '../base/ids.ts';
import type { Logger } from '../base/log.ts';
import type { NativeSession } from './binding.ts';
import type { Notifier } from './contract.ts';
import { Notify, OUT_HEADER_BYTES } from './protocol.ts';
import { WireWriter } from './writer.ts';

/**
 * Has the kernel send again what an earlier process took and did not answer. Does not wait for anything, unlike an invalidation.
 * Older kernels than Linux 6.9 refuse it: there `SessionOptions.keptFd` does it.
 */
export function requestResend(fd: number, log: Logger): void {
  const message = new WireWriter(Buffer.alloc(OUT_HEADER_BYTES));
  message.begin();
  message.finish(Notify.RESEND, 0, 0);
  try {
    writeSync(fd, message.written);
  } catch (error) {
    log.debug({ error }, 'this kernel cannot send requests again');
  }
}

const MAX_PENDING = 16_384;

interface Pending {
  readonly code: number;
  readonly encode: (out: WireWriter) => void;
}

/**
 * Messages to the kernel wait for the end of this turn of the event loop, so that none overtakes the reply of an operation
 * that sent it: an invalidation before the reply would leave the kernel with what the reply then brings.
 */
export class KernelNotifier implements Notifier {
  readonly #native: NativeSession;
  readonly #out: WireWriter;
  readonly #log: Logger;
  #pending: Pending[] = [];
  #dropped = 0;
  #stopped = false;

  constructor(native: NativeSession, out: WireWriter, log: Logger) {
    this.#native = native;
    this.#out = out;
    this.#log = log;
  }

  /** Messages lost because the kernel did not take them fast enough; TTLs then do their work. */
  get dropped(): number {
    return this.#dropped;
  }

  invalidateEntry(parent: NodeId, name: string): void {
    this.#add({
      code: Notify.INVAL_ENTRY,
      encode: (out) => {
        out.u64(parent);
        out.u32(Buffer.byteLength(name));
        out.u32(0); // flags
        out.text(name);
        out.zeros(1);
      },
    });
  }

  invalidateNode(node: NodeId, offset: number, lengthBytes: number): void {
    this.#add({
      code: Notify.INVAL_INODE,
      encode: (out) => {
        out.u64(node);
        out.u64(offset);
        out.u64(lengthBytes);
      },
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#pending = [];
  }

  #add(message: Pending): void {
    if (this.#stopped) return;
    if (this.#pending.length >= MAX_PENDING) {
      this.#drop();
      return;
    }
    this.#pending.push(message);
    if (this.#pending.length === 1) setImmediate(() => this.#flush());
  }

  #flush(): void {
    const pending = this.#pending;
    this.#pending = [];
    for (const { code, encode } of pending) {
      this.#out.begin();
      encode(this.#out);
      // `unique` 0 marks a notification; the field for the error carries its code.
      if (!this.#native.notify(this.#out.finish(code, 0, 0))) this.#drop();
    }
  }

  #drop(): void {
    this.#dropped += 1;
    if (this.#dropped === 1) this.#log.warn('the kernel is slow to take invalidations; some are dropped');
  }
}
