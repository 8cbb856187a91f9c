/** Option values, arguments and this host's circumstances → the configuration of one mount. */
import { access, statfs } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import {
  type CacheConfig,
  type CredentialsSpec,
  DEFAULTS,
  type Encryption,
  type LogConfig,
  type MountConfig,
  type ObjectDefaults,
  type StoreConfig,
  type TransferConfig,
} from '../mount/config.ts';
import { baseDirectories, controlSocketPath, mountName, runDirectory } from '../mount/directories.ts';
import { EXIT, MountError } from '../mount/errors.ts';
import { readHeaderRules } from '../mount/header-rules.ts';
import { SYSTEM_PASSWD_FILE } from '../mount/passwd-file.ts';
import { findMountpoint } from '../mount/preflight.ts';
import type { Host } from './host.ts';
import type { OptionValues } from './options.ts';
import type { Source } from './source.ts';

export interface Circumstances extends Host {
  readonly foreground: boolean;
}

const MAX_SINGLE_PUT_BYTES = 5 * 1024 ** 3;

/** `mountpoint` is absolute and real. Rejects with a `MountError` for a file that cannot be read. */
export async function resolveConfig(
  source: Source,
  mountpoint: string,
  values: OptionValues,
  host: Circumstances,
): Promise<MountConfig> {
  const { bucket, prefix } = source;
  const name = mountName({ endpointUrl: values.url, bucket, prefix, mountpoint });
  const base = baseDirectories(host.uid, host.environment);
  return {
    source: source.text,
    bucket,
    prefix,
    mountpoint,
    viewMountpoint: values.ro_view === undefined ? undefined : await findMountpoint(values.ro_view),
    store: await storeConfig(values, bucket, host),
    objects: await objectDefaults(values),
    attributes: {
      uid: values.uid ?? host.uid,
      gid: values.gid ?? host.gid,
      umask: values.umask ?? DEFAULTS.umask,
      // s3fs opens the mount point to all with allow_other, so that their processes can create in it.
      mountpointUmask: values.mp_umask ?? values.umask ?? (values.allow_other ? 0 : DEFAULTS.umask),
    },
    cache: await cacheConfig(values, join(values.use_cache ?? base.cache, name)),
    freshness: {
      expireMs: values.stat_cache_expire ?? DEFAULTS.expireMs,
      negativeTtlMs: values.enable_noobj_cache === false ? 0 : (values.negative_timeout ?? DEFAULTS.negativeTtlMs),
      maxNodes: values.max_stat_cache_size ?? DEFAULTS.maxNodes,
    },
    transfer: transferConfig(values),
    kernel: {
      driver: values.driver === 'portable' ? 'portable' : 'native',
      readOnly: values.ro ?? false,
      allowOther: values.allow_other ?? false,
      defaultPermissions: values.default_permissions ?? true,
      noexec: values.noexec ?? false,
      noatime: values.noatime ?? false,
      passthrough: values.passthrough ?? true,
      hotTable: values.hot_table ?? true,
    },
    log: logConfig(values, host.foreground ? undefined : join(base.log, `${name}.log`)),
    durability: values.durability === 'local' ? 'local' : 'remote',
    stateDirectory: join(values.state_dir ?? base.state, name),
    controlSocket: controlSocketPath(runDirectory(host.uid), mountpoint),
    statfsSizeBytes: values.bucket_size,
  };
}

async function storeConfig(values: OptionValues, bucket: string, host: Circumstances): Promise<StoreConfig> {
  return {
    endpointUrl: values.url,
    region: values.endpoint,
    pathStyle: values.use_path_request_style ?? needsPathStyle(values.url, bucket),
    credentials: await credentialsSpec(values, host.environment),
    verifyCertificate: !values.no_check_certificate,
    verifyHostname: values.ssl_verify_hostname !== '0',
    proxyUrl: values.proxy,
    requesterPays: values.requester_pays ?? false,
    retries: values.retries ?? DEFAULTS.retries,
    connectTimeoutMs: values.connect_timeout ?? DEFAULTS.connectTimeoutMs,
    idleTimeoutMs: values.readwrite_timeout ?? DEFAULTS.idleTimeoutMs,
    maxRequests: values.max_thread_count ?? DEFAULTS.maxRequests,
    maxMetadataRequests: values.multireq_max ?? DEFAULTS.maxMetadataRequests,
  };
}

/** Where a bucket cannot be part of the host name: addresses have no subdomains, and `*.host` covers one label only (RFC 6125). */
function needsPathStyle(url: string | undefined, bucket: string): boolean {
  const { hostname, protocol } = new URL(url ?? 'https://s3.amazonaws.com');
  const isAddress = /^[\d.]+$|^\[/.test(hostname) || hostname === 'localhost';
  return isAddress || (protocol === 'https:' && bucket.includes('.'));
}

/** s3fs's order: what was asked for, then the environment, then the usual files, then whatever the SDK finds. */
export async function credentialsSpec(
  values: OptionValues,
  environment: Circumstances['environment'],
): Promise<CredentialsSpec> {
  if (values.public_bucket) return { kind: 'public' };
  if (values.ecs) return { kind: 'container' };
  if (values.iam_role !== undefined) return { kind: 'instance' };
  if (values.passwd_file !== undefined) return { kind: 'passwdFile', path: values.passwd_file };
  if (values.profile !== undefined) return { kind: 'profile', name: values.profile };
  if (environment.AWSACCESSKEYID || environment.AWSSECRETACCESSKEY) {
    return { kind: 'environment', tokenRequired: values.use_session_token ?? false };
  }
  for (const path of [join(environment.HOME || homedir(), '.passwd-s3fs'), SYSTEM_PASSWD_FILE]) {
    if (await exists(path)) return { kind: 'passwdFile', path };
  }
  return { kind: 'chain' };
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

async function objectDefaults(values: OptionValues): Promise<ObjectDefaults> {
  return {
    acl: values.default_acl,
    storageClass: values.storage_class?.toUpperCase(),
    encryption: parseEncryption(values.use_sse),
    headerRules: await readHeaderRules(values.mime, values.ahbe_conf),
  };
}

function parseEncryption(text: string | undefined): Encryption | undefined {
  if (text === undefined || text === '0') return undefined;
  if (text === '' || text === '1') return { kind: 'store' };
  const [kind = '', ...rest] = text.split(':');
  const argument = rest.join(':');
  if (kind === 'kmsid' || kind === 'k') return { kind: 'kms', keyId: argument || undefined };
  if ((kind === 'custom' || kind === 'c') && argument.startsWith('/')) return { kind: 'customer', keyFile: argument };
  const forms = 'use_sse, use_sse=custom:FILE with an absolute path, or use_sse=kmsid:ID';
  throw new MountError(`The option use_sse has one of the forms ${forms}.`, EXIT.usage);
}

async function cacheConfig(values: OptionValues, directory: string): Promise<CacheConfig> {
  const percent = values.free_space_ratio ?? (values.ensure_diskfree === undefined ? DEFAULTS.freeSpacePercent : 0);
  return {
    directory,
    limitBytes: values.cache_size ?? DEFAULTS.cacheLimitBytes,
    minFreeBytes: Math.max(values.ensure_diskfree ?? 0, Math.floor(((await diskSizeBytes(directory)) * percent) / 100)),
    deleteAtEnds: values.del_cache ?? false,
  };
}

/** Of the file system on which a path is, or would be. */
async function diskSizeBytes(path: string): Promise<number> {
  const status = await statfs(path).catch(() => undefined);
  if (status !== undefined) return status.blocks * status.bsize;
  return path === '/' ? 0 : diskSizeBytes(dirname(path));
}

function transferConfig(values: OptionValues): TransferConfig {
  const threshold = values.multipart_threshold ?? DEFAULTS.multipartThresholdBytes;
  return {
    partSizeBytes: values.multipart_size ?? DEFAULTS.partSizeBytes,
    copyPartSizeBytes: values.multipart_copy_size ?? DEFAULTS.copyPartSizeBytes,
    multipartThresholdBytes: values.nomultipart ? MAX_SINGLE_PUT_BYTES : threshold,
    singleCopyLimitBytes: values.singlepart_copy_limit ?? DEFAULTS.singleCopyLimitBytes,
    parallelParts: values.parallel_count ?? DEFAULTS.parallelParts,
  };
}

/** By the first letters, as s3fs has several spellings of each. */
const LEVELS: readonly (readonly [string, LogConfig['level']])[] = [
  ['crit', 'fatal'],
  ['err', 'error'],
  ['wa', 'warn'],
  ['inf', 'info'],
  ['d', 'debug'],
];

function logConfig(values: OptionValues, defaultFile: string | undefined): LogConfig {
  const given = LEVELS.find(([start]) => values.dbglevel?.startsWith(start))?.[1];
  return {
    level: given ?? (values.curldbg === undefined ? DEFAULTS.logLevel : 'debug'),
    file: values.logfile ?? defaultFile,
    traceRequests: values.curldbg !== undefined,
  };
}
