/** Time, injectable so that tests can move it. */
export interface Clock {
  /** Wall clock, milliseconds since the epoch. May jump: use it for times that are stored or shown. */
  nowMs(): number;
  /** Monotonic, milliseconds since an arbitrary start: use it for intervals. */
  monotonicMs(): number;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};

/** A point in time as POSIX has it. `nsec` is in [0, 1e9). */
export interface Timespec {
  readonly sec: number;
  readonly nsec: number;
}

export function timespecFromMs(ms: number): Timespec {
  const sec = Math.floor(ms / 1000);
  return { sec, nsec: Math.min(999_999_999, Math.round((ms - sec * 1000) * 1e6)) };
}
