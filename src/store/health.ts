/**
 * Whether the store can be asked. Every attempt passes here: a store that has not answered anybody for a while is `away`, and then nobody
 * waits for it any more: requests fail at once, and one cheap request at a time looks whether it is back. A store that answers and will not do
 * what it is asked (credentials, permissions, quota, clock) is `refusing`; that is only told.
 */
import { type Clock, systemClock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import { isStoreError, StoreError, type StoreErrorKind } from './contract.ts';
import type { Around, Operation } from './wrap.ts';

export type StoreState = 'ok' | 'degraded' | 'refusing' | 'away';

export interface StoreHealth {
  /** `degraded`: requests failed within the last minute, others did not. */
  readonly state: StoreState;
  readonly sinceMs: number;
  /** The last failure, also of a time that is over. */
  readonly lastError?: { readonly kind: StoreErrorKind; readonly atMs: number; readonly advice: string } | undefined;
}

export interface HealthOptions {
  readonly log: Logger;
  /** In a sentence: what is wrong, and what to do. */
  readonly advise: (error: StoreError) => string;
  readonly clock?: Clock;
}

/** Nothing came back. */
const SILENT: readonly StoreErrorKind[] = ['Timeout', 'Transport'];
/** The store answers, and everything else of that kind would be refused too. */
const REFUSALS: readonly StoreErrorKind[] = [
  'BadCredentials',
  'AccessDenied',
  'NoSuchBucket',
  'ClockSkew',
  'QuotaExceeded',
];
/** One key may be forbidden; these mean the whole bucket. */
const PLAIN_REFUSALS: readonly StoreErrorKind[] = ['BadCredentials', 'NoSuchBucket', 'ClockSkew', 'QuotaExceeded'];
const TROUBLE: readonly StoreErrorKind[] = [...SILENT, ...REFUSALS, 'Throttled', 'Unavailable', 'Corrupt'];

/** A restart of the store is waited for by retrying. */
const AWAY_AFTER_MS = 5_000;
/** In a row, without an answer to anybody. */
const AWAY_FAILURES = 3;
const REFUSALS_IN_A_ROW = 3;
const DEGRADED_MS = 60_000;
const PROBE_EVERY_MS = 1_000;
const PROBE_LIMIT_MS = 5_000;

const READS: readonly Operation[] = ['head', 'get', 'list', 'check'];

interface Streak {
  readonly sinceMs: number;
  readonly startedAtMs: number;
  failures: number;
}

export class HealthMonitor {
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #advise: (error: StoreError) => string;
  readonly #probe: (signal: AbortSignal) => Promise<void>;
  readonly #createdAtMs: number;
  #silence: Streak | undefined;
  /** Reading may be permitted and writing not. */
  readonly #refusals = new Map<'reads' | 'writes', Streak>();
  #recoveredAtMs: number | undefined;
  #awaySinceMs: number | undefined;
  #lastError: StoreError | undefined;
  #lastErrorAtMs = 0;
  #firstTroubleAtMs = 0;
  #timer: NodeJS.Timeout | undefined;
  readonly #onReturn = new Set<() => void>();

  /** `probe`: one cheap request, not passed through here. */
  constructor(probe: (signal: AbortSignal) => Promise<void>, { log, advise, clock = systemClock }: HealthOptions) {
    this.#probe = probe;
    this.#log = log;
    this.#advise = advise;
    this.#clock = clock;
    this.#createdAtMs = clock.nowMs();
  }

  readonly around: Around = async (call, attempt) => {
    if (this.#awaySinceMs !== undefined && this.#lastError !== undefined) {
      throw new StoreError('Away', `${call.key}: not asked, as the store does not answer (${this.#lastError.message})`);
    }
    const startedAtMs = this.#clock.monotonicMs();
    const side = READS.includes(call.operation) ? 'reads' : 'writes';
    try {
      const result = await attempt();
      this.#answered(side);
      return result;
    } catch (error) {
      if (isStoreError(error, 'Aborted')) throw error;
      if (isStoreError(error)) this.#failed(error, side, startedAtMs);
      throw error;
    }
  };

  health(): StoreHealth {
    const error = this.#lastError;
    const lastError = error && { kind: error.kind, atMs: this.#lastErrorAtMs, advice: this.#advise(error) };
    return { ...this.#state(), lastError };
  }

  /** The store answers again. */
  onReturn(listener: () => void): void {
    this.#onReturn.add(listener);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#onReturn.clear();
  }

  #state(): Pick<StoreHealth, 'state' | 'sinceMs'> {
    if (this.#awaySinceMs !== undefined) return { state: 'away', sinceMs: this.#awaySinceMs };
    for (const streak of this.#refusals.values()) {
      if (this.#isRefusing(streak)) return { state: 'refusing', sinceMs: streak.sinceMs };
    }
    if (this.#lastErrorAtMs > 0 && this.#clock.nowMs() - this.#lastErrorAtMs < DEGRADED_MS) {
      return { state: 'degraded', sinceMs: this.#firstTroubleAtMs };
    }
    return { state: 'ok', sinceMs: this.#recoveredAtMs ?? this.#createdAtMs };
  }

  #isRefusing({ failures }: Streak): boolean {
    return failures >= REFUSALS_IN_A_ROW;
  }

  #answered(side: 'reads' | 'writes'): void {
    this.#silence = undefined;
    const refusal = this.#refusals.get(side);
    if (refusal === undefined) return;
    this.#refusals.delete(side);
    if (!this.#isRefusing(refusal)) return;
    this.#recoveredAtMs = this.#clock.nowMs();
    this.#log.warn({ side }, 'the store does again what it is asked');
    this.#tellReturn();
  }

  #failed(error: StoreError, side: 'reads' | 'writes', startedAtMs: number): void {
    if (!TROUBLE.includes(error.kind)) {
      this.#answered(side);
      return;
    }
    const nowMs = this.#clock.nowMs();
    if (nowMs - this.#lastErrorAtMs >= DEGRADED_MS) this.#firstTroubleAtMs = nowMs;
    this.#lastError = error;
    this.#lastErrorAtMs = nowMs;
    if (SILENT.includes(error.kind)) this.#noteSilence(error, startedAtMs);
    else this.#silence = undefined;
    if (REFUSALS.includes(error.kind)) this.#noteRefusal(error, side, startedAtMs);
  }

  #noteSilence(error: StoreError, startedAtMs: number): void {
    this.#silence ??= { sinceMs: this.#clock.nowMs(), startedAtMs, failures: 0 };
    this.#silence.failures += 1;
    if (this.#awaySinceMs !== undefined || this.#silence.failures < AWAY_FAILURES) return;
    if (this.#clock.monotonicMs() - this.#silence.startedAtMs < AWAY_AFTER_MS) return;
    this.#awaySinceMs = this.#silence.sinceMs;
    this.#log.error(
      { kind: error.kind, advice: this.#advise(error) },
      'the store does not answer: nobody waits for it until it does',
    );
    this.#probeLater();
  }

  #noteRefusal(error: StoreError, side: 'reads' | 'writes', startedAtMs: number): void {
    const streak = this.#refusals.get(side) ?? { sinceMs: this.#clock.nowMs(), startedAtMs, failures: 0 };
    this.#refusals.set(side, streak);
    const was = this.#isRefusing(streak);
    streak.failures += PLAIN_REFUSALS.includes(error.kind) ? REFUSALS_IN_A_ROW : 1;
    if (was || !this.#isRefusing(streak)) return;
    this.#log.error({ kind: error.kind, side, advice: this.#advise(error) }, 'the store refuses what it is asked');
  }

  #probeLater(): void {
    this.#timer = setTimeout(() => void this.#look(), PROBE_EVERY_MS);
    this.#timer.unref();
  }

  /** Any answer will do, also a refusal. */
  async #look(): Promise<void> {
    const error = await this.#probe(AbortSignal.timeout(PROBE_LIMIT_MS)).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (this.#timer === undefined) return;
    if (isStoreError(error, 'Aborted', ...SILENT)) return this.#probeLater();
    this.#awaySinceMs = undefined;
    this.#silence = undefined;
    this.#recoveredAtMs = this.#clock.nowMs();
    this.#log.warn('the store answers again');
    this.#tellReturn();
  }

  #tellReturn(): void {
    for (const listener of this.#onReturn) listener();
  }
}
