/** Time, injectable so that tests can move it. */
export interface Clock {
  /** Wall clock, milliseconds since the epoch. May jump: use it for times that are shown, and beside times of files. */
  nowMs(): number;
  /** Monotonic, milliseconds since an arbitrary start: use it for intervals. */
  monotonicMs(): number;
}

/** For times that are kept and compared with each other, over restarts too: "seen at", "used at". */
export interface StampClock extends Clock {
  /**
   * Whole milliseconds since the epoch, about: never goes back. It follows the wall clock when that is set forward (what is remembered then expires
   * early, or was asleep with the machine), and goes on at its own pace when that is set back.
   */
  stampMs(): number;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};

/** By less the clocks of a running machine drift apart. */
const SET_BACK_MS = 1000;

export interface StampOptions {
  /** A stamp that was given before, maybe by another process: all that follow are later. */
  readonly afterMs: number;
  /** The wall clock was set: from now on stamps are ahead of it by so much, ms, or no longer (0). */
  readonly onAhead: (aheadMs: number) => void;
}

/** The wall clock was set back: stamps do not tell how old what they are on is. */
export function isAhead(clock: StampClock): boolean {
  return clock.stampMs() - clock.nowMs() > SET_BACK_MS;
}

export function createStampClock(clock: Clock, { afterMs, onAhead }: StampOptions): StampClock {
  let lastMs = afterMs;
  let lastAtMs = clock.monotonicMs();
  let noted = 0;
  return {
    nowMs: () => clock.nowMs(),
    monotonicMs: () => clock.monotonicMs(),
    stampMs: () => {
      const atMs = clock.monotonicMs();
      const nowMs = clock.nowMs();
      lastMs = Math.max(nowMs, lastMs + atMs - lastAtMs);
      lastAtMs = atMs;
      const aheadMs = lastMs - nowMs > SET_BACK_MS ? Math.ceil(lastMs - nowMs) : 0;
      if (Math.abs(aheadMs - noted) > SET_BACK_MS || (aheadMs === 0 && noted > 0)) {
        noted = aheadMs;
        onAhead(aheadMs);
      }
      return Math.floor(lastMs);
    },
  };
}

/** A point in time as POSIX has it. `nsec` is in [0, 1e9). */
export interface Timespec {
  readonly sec: number;
  readonly nsec: number;
}

export function timespecFromMs(ms: number): Timespec {
  const sec = Math.floor(ms / 1000);
  return { sec, nsec: Math.min(999_999_999, Math.round((ms - sec * 1000) * 1e6)) };
}
