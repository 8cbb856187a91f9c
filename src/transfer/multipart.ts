import type { Logger } from '../base/log.ts';
import {
  isStoreError,
  type MultipartUpload,
  type ObjectStore,
  type PartResult,
  type PutRequest,
  type PutResult,
  StoreError,
} from '../store/contract.ts';
import { multipartEtag } from '../store/etag.ts';
import type { Part } from './parts.ts';

export interface MultipartJob {
  readonly key: string;
  readonly request: PutRequest;
  readonly parts: readonly Part[];
  /** So many parts under way at once, or waiting for others that are. */
  readonly parallel: number;
  /** Sends or copies one part; called in their order. The signal ends it when another part failed. */
  readonly send: (upload: MultipartUpload, part: Part, signal: AbortSignal) => Promise<PartResult>;
  /** Last look before the object appears; rejects to prevent it. `expectedEtag`: undefined when it cannot be told. */
  readonly beforeComplete: (expectedEtag: string | undefined) => Promise<void>;
}

/** Parts in parallel. Aborted on failure: an unfinished upload is billed until someone notices. */
export async function runMultipart(store: ObjectStore, log: Logger, job: MultipartJob): Promise<PutResult> {
  const upload = await store.createMultipart(job.key, job.request);
  try {
    const parts = await sendParts(upload, job);
    await job.beforeComplete(multipartEtag(parts.map((part) => part.etag)));
    return await complete(store, upload, parts, job.request);
  } catch (error) {
    await store.abortMultipart(upload).catch((cause: unknown) => {
      log.warn({ key: job.key, error: cause }, 'cannot abort a multipart upload; the bucket keeps its parts');
    });
    throw error;
  }
}

async function sendParts(upload: MultipartUpload, job: MultipartJob): Promise<PartResult[]> {
  const stop = new AbortController();
  const signal = job.request.signal === undefined ? stop.signal : AbortSignal.any([stop.signal, job.request.signal]);
  const results: PartResult[] = [];
  const rest = job.parts.values();
  const worker = async () => {
    for (const part of rest) results.push(await job.send(upload, part, signal));
  };
  let failure: { readonly error: unknown } | undefined;
  const workers = Array.from({ length: Math.min(job.parallel, job.parts.length) }, () =>
    worker().catch((error: unknown) => {
      failure ??= { error };
      stop.abort();
    }),
  );
  await Promise.all(workers);
  if (job.request.signal?.aborted) throw new StoreError('Aborted', 'the upload was given up');
  if (failure !== undefined) throw failure.error;
  return results.sort((a, b) => a.partNumber - b.partNumber);
}

/**
 * The store may have completed an upload whose answer was lost: the repeated request then finds no such upload. The object
 * itself tells, as its ETag follows from those of the parts.
 */
async function complete(
  store: ObjectStore,
  upload: MultipartUpload,
  parts: readonly PartResult[],
  { signal }: PutRequest,
): Promise<PutResult> {
  const cancelable = signal === undefined ? {} : { signal };
  try {
    return await store.completeMultipart(upload, parts, cancelable);
  } catch (error) {
    const expected = multipartEtag(parts.map((part) => part.etag));
    if (expected === undefined || !isStoreError(error, 'NotFound', 'Timeout', 'Transport', 'Unavailable')) throw error;
    const head = await store.head(upload.key, cancelable).catch(() => undefined);
    if (head?.etag !== expected) throw error;
    return { etag: head.etag, lastModifiedMs: head.lastModifiedMs };
  }
}
