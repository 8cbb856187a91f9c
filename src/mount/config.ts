/**
 * Everything that one mount is told, resolved and typed: what the composition root builds from. Holds no secrets, only where they
 * are found; is plain data, so that it can be sent to another process.
 */
import { createRequire } from 'node:module';
import type { HeaderRule } from './header-rules.ts';

/** Where the keys come from; `credentials.ts` turns it into a provider. */
export type CredentialsSpec =
  | { readonly kind: 'passwdFile'; readonly path: string }
  /** AWSACCESSKEYID, AWSSECRETACCESSKEY and AWSSESSIONTOKEN, s3fs's names. */
  | { readonly kind: 'environment'; readonly tokenRequired: boolean }
  | { readonly kind: 'profile'; readonly name: string }
  /** The role of the EC2 instance. */
  | { readonly kind: 'instance' }
  /** The role of the ECS task. */
  | { readonly kind: 'container' }
  /** Requests are not signed. */
  | { readonly kind: 'public' }
  /** Whatever the AWS SDK finds. */
  | { readonly kind: 'chain' };

export type Encryption =
  | { readonly kind: 'store' }
  | { readonly kind: 'kms'; readonly keyId: string | undefined }
  /** The first line of the file is the key for writing, each may be one for reading. */
  | { readonly kind: 'customer'; readonly keyFile: string };

export interface StoreConfig {
  /** `https://host[:port][/path]` without a trailing slash; undefined: AWS. */
  readonly endpointUrl: string | undefined;
  /** undefined: taken from the host name, or learnt from the store. */
  readonly region: string | undefined;
  readonly pathStyle: boolean;
  readonly credentials: CredentialsSpec;
  readonly verifyCertificate: boolean;
  readonly verifyHostname: boolean;
  readonly proxyUrl: string | undefined;
  readonly requesterPays: boolean;
  /** Attempts after the first one. */
  readonly retries: number;
  readonly connectTimeoutMs: number;
  /** No byte in either direction for so long fails the request. */
  readonly idleTimeoutMs: number;
  /** All requests under way at once. */
  readonly maxRequests: number;
  /** Listings and HEADs under way at once. */
  readonly maxMetadataRequests: number;
}

/** What is put on objects that are written. */
export interface ObjectDefaults {
  /** Canned ACL, undefined: none is sent. */
  readonly acl: string | undefined;
  /** In upper case, undefined: the bucket's. */
  readonly storageClass: string | undefined;
  readonly encryption: Encryption | undefined;
  /** Later rules win. */
  readonly headerRules: readonly HeaderRule[];
}

/** What a file is when its object does not say. */
export interface AttributeDefaults {
  readonly uid: number;
  readonly gid: number;
  /** Taken from 0777 for directories and 0666 for files. */
  readonly umask: number;
  /** Taken from 0777 for the mount point. */
  readonly mountpointUmask: number;
}

export interface CacheConfig {
  /** Belongs to this mount alone. */
  readonly directory: string;
  readonly limitBytes: number;
  readonly minFreeBytes: number;
  /** Empty it at mount and after unmount. */
  readonly deleteAtEnds: boolean;
}

export interface FreshnessConfig {
  /** How long an attribute or listing is believed before the bucket is asked again. */
  readonly expireMs: number;
  /** The same for a missing name. */
  readonly negativeTtlMs: number;
  /** Nodes kept in memory. */
  readonly maxNodes: number;
}

export interface TransferConfig {
  readonly partSizeBytes: number;
  readonly copyPartSizeBytes: number;
  /** Files above this are sent in parts. */
  readonly multipartThresholdBytes: number;
  /** Objects above this are copied in parts. */
  readonly singleCopyLimitBytes: number;
  /** Parts of one upload under way at once. */
  readonly parallelParts: number;
}

export interface KernelConfig {
  /** `portable`: libfuse 2 through the npm package `fuse-native`. */
  readonly driver: 'native' | 'portable';
  readonly readOnly: boolean;
  readonly allowOther: boolean;
  readonly defaultPermissions: boolean;
  readonly noexec: boolean;
  readonly noatime: boolean;
  /** FUSE passthrough may be used. */
  readonly passthrough: boolean;
  /** Native threads answer for files in use (the hot table). */
  readonly hotTable: boolean;
}

export interface LogConfig {
  readonly level: 'fatal' | 'error' | 'warn' | 'info' | 'debug';
  /** Absolute; undefined: stderr. */
  readonly file: string | undefined;
  /** Log each request to the store (never its body or its signature). */
  readonly traceRequests: boolean;
}

export interface MountConfig {
  /** `BUCKET[:/PREFIX]`, as `/proc/mounts` shows it. */
  readonly source: string;
  readonly bucket: string;
  /** '' or `a/b/`: what every key begins with. */
  readonly prefix: string;
  /** Absolute and free of symbolic links. */
  readonly mountpoint: string;
  /** A second mount point, read-only; the same holds for it. */
  readonly viewMountpoint?: string | undefined;
  readonly store: StoreConfig;
  readonly objects: ObjectDefaults;
  readonly attributes: AttributeDefaults;
  readonly cache: CacheConfig;
  readonly freshness: FreshnessConfig;
  readonly transfer: TransferConfig;
  readonly kernel: KernelConfig;
  readonly log: LogConfig;
  /** `remote`: close(2) returns when the bucket has the file. `local`: when it is staged and journaled. */
  readonly durability: 'remote' | 'local';
  /** Index, journal and staging of this mount; never inside the cache. */
  readonly stateDirectory: string;
  /** Unix socket of this mount's daemon, in a directory that only its owner enters. */
  readonly controlSocket: string;
  /** Total size that statfs(2) reports; undefined: a very large one. */
  readonly statfsSizeBytes: number | undefined;
}

/** The same path from src/ and from dist/. */
const packageFile = createRequire(import.meta.url)('../../package.json') as { readonly version: string };

export const VERSION = packageFile.version;

const MIB = 1024 * 1024;

/** The one place of defaults: what options leave out. */
export const DEFAULTS = {
  retries: 5,
  connectTimeoutMs: 10_000,
  idleTimeoutMs: 30_000,
  maxRequests: 64,
  maxMetadataRequests: 20,
  cacheLimitBytes: 10 * 1024 * MIB,
  /** Percent of the cache's file system that stay free. */
  freeSpacePercent: 5,
  expireMs: 10_000,
  negativeTtlMs: 1000,
  maxNodes: 100_000,
  partSizeBytes: 10 * MIB,
  copyPartSizeBytes: 512 * MIB,
  multipartThresholdBytes: 25 * MIB,
  singleCopyLimitBytes: 512 * MIB,
  parallelParts: 5,
  umask: 0o022,
  logLevel: 'info',
  logFileLimitBytes: 16 * MIB,
} as const;
