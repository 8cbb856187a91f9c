/** One bucket's client: learns region and time of the store, turns every failure into a `StoreError`. */
import type { S3Client } from '@aws-sdk/client-s3';
import { createClient, createTransport, initialRegion, type S3ConnectionOptions } from './s3-client.ts';
import { isForbidden, regionFromError, toStoreError } from './s3-errors.ts';
import type { HttpTransport } from './s3-http.ts';

export interface SendOptions {
  readonly abortSignal?: AbortSignal;
}

/** Stores refuse signatures that are older or younger than this by some times as much. */
const CLOCK_STEP_MS = 60_000;

export type Exchange<T> = (client: S3Client, options: SendOptions) => Promise<T>;

export class S3Connection {
  readonly #options: S3ConnectionOptions;
  readonly #transport: HttpTransport;
  #region: string;
  #client: S3Client;

  constructor(options: S3ConnectionOptions) {
    this.#options = options;
    this.#region = initialRegion(options);
    this.#transport = createTransport(options);
    this.#client = createClient(options, this.#region, this.#transport);
  }

  /**
   * Sends one request. When the store answers that the bucket is in another region, or that the signature is not of its day (the clock of this host is
   * off, or was set), that is remembered and the request sent once more, so `exchange` may be called twice.
   * @param name what is asked, for messages: `GET photos/1.jpg`
   */
  async send<T>(name: string, signal: AbortSignal | undefined, exchange: Exchange<T>): Promise<T> {
    const options = signal === undefined ? {} : { abortSignal: signal };
    const region = this.#region;
    const offsetMs = this.#clockOffsetMs;
    try {
      return await exchange(this.#client, options);
    } catch (error) {
      const learnt = regionFromError(error);
      if (learnt !== undefined && learnt !== region) this.#moveTo(learnt);
      else if (!isForbidden(error) || Math.abs(this.#clockOffsetMs - offsetMs) < CLOCK_STEP_MS)
        throw toStoreError(error, name, signal);
    }
    try {
      return await exchange(this.#client, options);
    } catch (error) {
      throw toStoreError(error, name, signal);
    }
  }

  close(): void {
    this.#transport.destroy();
  }

  /** How far the store's clock is ahead, ms: the SDK takes it from each answer, and signs by it. */
  get #clockOffsetMs(): number {
    return this.#client.config.systemClockOffset;
  }

  /** Requests under way keep the old client; both share the transport. */
  #moveTo(region: string): void {
    if (region === this.#region) return;
    this.#region = region;
    this.#client = createClient(this.#options, region, this.#transport);
  }
}
