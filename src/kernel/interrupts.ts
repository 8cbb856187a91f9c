/**
 * Callers that are to end: killed, or by Ctrl-C or SIGTERM unless they catch those. The kernel lets none of them go before its request is answered, and
 * says of every signal the same: INTERRUPT. Signals that a program goes on after (timers, children, Go's SIGURG, a SIGTERM that it catches) must not
 * end a call, or it would see EINTR where no local file system has it, and repeat what was done; and the kernel says nothing of a later one. So
 * the callers of interrupted requests are looked at until they are answered. A process that is killed closes its files, and of the signal that
 * ended it nothing is said at all: so whoever closes is looked at too.
 */
import { readFile } from 'node:fs/promises';
import { constants } from 'node:os';
import type { Request } from './request.ts';

const { signals } = constants;

const LOOK_EVERY_MS = 500;
/** In the masks of `/proc/TID/status`, bit n stands for signal n + 1. */
const ENDING_SIGNALS = [signals.SIGINT, signals.SIGKILL, signals.SIGTERM].reduce((mask, n) => mask | (1 << (n - 1)), 0);
/** Of `/proc/TID/stat` (proc_pid_stat(5)), counted from the state on. */
const FLAGS_FIELD = 6;
const EXIT_CODE_FIELD = 49;
const PF_EXITING = 4;
/** Of an exit code in the form of wait(2). */
const SIGNAL_MASK = 0x7f;

export class Interrupts {
  /** Gives up a request: nobody will look at its answer. */
  readonly #abandon: (request: Request) => void;
  readonly #requests = new Set<Request>();
  #timer: NodeJS.Timeout | undefined;

  constructor(abandon: (request: Request) => void) {
    this.#abandon = abandon;
  }

  /** A signal has reached the caller of a request that is in flight. */
  note(request: Request): void {
    this.watch(request);
    void this.#look();
  }

  /** A request that is in flight: it may take a while. */
  watch(request: Request): void {
    this.#requests.add(request);
    this.#timer ??= setInterval(() => void this.#look(), LOOK_EVERY_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#requests.clear();
  }

  async #look(): Promise<void> {
    for (const request of this.#requests) {
      if (!request.answered && (await isEnding(request.pid)) && this.#requests.has(request)) this.#abandon(request);
      if (request.answered) this.#requests.delete(request);
    }
    if (this.#requests.size === 0) this.stop();
  }
}

/** Of a thread id. False where nothing is known: pid 0 is a process outside of our pid namespace. */
async function isEnding(tid: number): Promise<boolean> {
  if (tid === 0) return false;
  try {
    const stat = await readFile(`/proc/${tid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const isExiting = (Number(fields[FLAGS_FIELD]) & PF_EXITING) !== 0;
    if (isExiting) return (Number(fields[EXIT_CODE_FIELD]) & SIGNAL_MASK) !== 0;
    const status = await readFile(`/proc/${tid}/status`, 'latin1');
    const mask = (name: string) => {
      const low = new RegExp(`^${name}:\\s*[0-9a-f]*([0-9a-f]{4})$`, 'm').exec(status)?.[1] ?? '0';
      return Number.parseInt(low, 16);
    };
    const pending = (mask('SigPnd') | mask('ShdPnd')) & ~mask('SigBlk') & ENDING_SIGNALS;
    return (pending & ~mask('SigCgt')) !== 0;
  } catch {
    // It is gone, or hidden from us (hidepid): then it waits until its request ends.
    return false;
  }
}
