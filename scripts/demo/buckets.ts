/** Where the demonstration keeps its images: a store of its own on loopback, or a scratch prefix of the visitor's bucket. */
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { silentLogger } from '../../src/base/log.ts';
import { parseOptions, splitOptions } from '../../src/cli/parse-options.ts';
import { resolveConfig } from '../../src/cli/resolve.ts';
import { parseSource } from '../../src/cli/source.ts';
import type { MountConfig } from '../../src/mount/config.ts';
import { storeFailure } from '../../src/mount/messages.ts';
import { openStore } from '../../src/mount/object-store.ts';
import type { ObjectStore } from '../../src/store/contract.ts';
import { createBucket } from '../../test/support/buckets.ts';
import { startProxy } from '../../test/support/proxy.ts';
import { startGateway } from '../lib/gateway.ts';
import type { RequestCounts } from './tour.ts';

export interface DemoBucket {
  /** `BUCKET[:/PREFIX]`, and what follows `-o`. */
  readonly source: string;
  readonly options: string;
  /** For filling it: not counted. */
  readonly store: ObjectStore;
  /** '' or `a/`. */
  readonly prefix: string;
  /** Requests that the mount made so far, where a proxy can stand in between. */
  readonly countRequests: (() => RequestCounts) | undefined;
}

export interface DemoContext {
  readonly scratch: string;
  readonly signal: AbortSignal;
  progress(text: string): void;
  /** Called in reverse order at the end, whatever happens. */
  atEnd(action: () => Promise<void>): void;
}

const BUCKET = 'demo-images';

export async function openLocalBucket(context: DemoContext): Promise<DemoBucket> {
  context.progress('starting an object store (Ceph RGW) on loopback');
  const gateway = await startGateway(context.scratch, context.signal);
  context.atEnd(() => gateway.stop());
  await createBucket(gateway, BUCKET);
  context.progress('putting a proxy that counts requests in front of it');
  const proxy = await startProxy({ upstream: gateway.endpoint });
  context.atEnd(() => proxy.stop());
  const passwdFile = join(context.scratch, 'passwd');
  await writeFile(passwdFile, `${gateway.accessKeyId}:${gateway.secretAccessKey}\n`, { mode: 0o600 });
  const options = (url: string) => `url=${url},use_path_request_style,passwd_file=${passwdFile}`;
  return {
    source: BUCKET,
    options: options(proxy.endpoint),
    store: await openFor(await configOf(BUCKET, options(gateway.endpoint), context), context),
    prefix: '',
    countRequests: () => ({ ...proxy.counts() }),
  };
}

export interface ProviderOptions {
  readonly bucket: string;
  readonly url: string | undefined;
  /** As after `-o` of `tsfs mount`: credentials, region and the like. */
  readonly options: string | undefined;
}

/** Everything happens below a new prefix, which is deleted at the end. */
export async function openProviderBucket(provider: ProviderOptions, context: DemoContext): Promise<DemoBucket> {
  const prefix = `tsfs-demo-${randomBytes(6).toString('hex')}/`;
  context.progress(`using only ${provider.bucket}/${prefix}, which is deleted at the end`);
  const given = [provider.url === undefined ? '' : `url=${provider.url}`, provider.options ?? ''];
  const options = given.filter((part) => part !== '').join(',');
  const config = await configOf(provider.bucket, options, context);
  const store = await openFor(config, context);
  await store.check({ prefix, signal: context.signal }).catch((error: unknown) => {
    throw storeFailure(error, config);
  });
  return { source: `${provider.bucket}:/${prefix.slice(0, -1)}`, options, store, prefix, countRequests: undefined };
}

/** Of a mount with these options. */
function configOf(bucket: string, options: string, context: DemoContext): Promise<MountConfig> {
  const { values } = parseOptions(splitOptions(options), process.cwd());
  const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
  const host = { uid, gid, environment: process.env, foreground: false };
  return resolveConfig(parseSource(bucket), context.scratch, values, host);
}

async function openFor(config: MountConfig, context: DemoContext): Promise<ObjectStore> {
  const { store } = await openStore(config, silentLogger);
  context.atEnd(async () => store.close());
  return store;
}
