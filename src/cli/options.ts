/**
 * The options of a mount: the one table from which parsing, validation, help and documentation come. Names and units are those
 * of s3fs, so that a line of fstab switches by its type alone.
 */
import { DEFAULTS } from '../mount/config.ts';

export type OptionKind =
  /** No value, or `=1` and `=0`. */
  | 'flag'
  | 'text'
  /** A value that may be left out: then ''. */
  | 'optionalText'
  | 'path'
  | 'url'
  | 'count'
  /** Given in seconds, kept in milliseconds. */
  | 'seconds'
  /** Given in MiB, kept in bytes. */
  | 'megabytes'
  /** Bytes with an optional suffix: 500M, 10GB, 2TiB. */
  | 'size'
  | 'percent'
  | 'octal'
  /** Takes anything: for options that are ignored. */
  | 'any';

export const GROUPS = {
  bucket: 'Bucket and endpoint',
  keys: 'Keys',
  access: 'Owners and permissions',
  cache: 'Cache and state',
  requests: 'Requests and transfers',
  objects: 'Objects',
  log: 'Logging',
  mount: 'Words of mount(8) and FUSE',
} as const;

export interface OptionSpec {
  readonly kind: OptionKind;
  readonly group: keyof typeof GROUPS;
  /** One sentence without full stop. For ignored and refused options: why. */
  readonly help: string;
  readonly value?: string;
  readonly default?: string;
  readonly aliases?: readonly string[];
  /** The word that switches this flag off. */
  readonly opposite?: string;
  readonly choices?: readonly string[];
  readonly min?: number;
  readonly max?: number;
  /**
   * Absent: it does what it says. `builtin`: accepted, and always so. `ignored`: accepted, and the log says that it does
   * nothing. `refused`: an error.
   */
  readonly support?: 'builtin' | 'ignored' | 'refused';
}

const seconds = (ms: number) => String(ms / 1000);
const mebibytes = (bytes: number) => String(bytes / (1024 * 1024));
const MIB = 1024 * 1024;

const bucket = {
  url: {
    kind: 'url',
    group: 'bucket',
    value: 'URL',
    aliases: ['host'],
    default: 'Amazon S3',
    help: 'endpoint of the object store, http:// or https://',
  },
  use_path_request_style: {
    kind: 'flag',
    group: 'bucket',
    help: 'put the bucket into the path of the URL, not into its host name',
  },
  endpoint: {
    kind: 'text',
    group: 'bucket',
    value: 'REGION',
    aliases: ['region'],
    default: 'by host name, or learnt',
    help: 'region that requests are signed for',
  },
  bucket: { kind: 'text', group: 'bucket', value: 'BUCKET[:/PREFIX]', help: 'the bucket, where only DIR is given' },
  servicepath: { kind: 'any', group: 'bucket', support: 'ignored', help: 'put the path into url' },
  sigv2: {
    kind: 'any',
    group: 'bucket',
    support: 'refused',
    help: 'signature version 2 is not supported: it is no longer safe, and every current store knows version 4',
  },
  sigv4: { kind: 'any', group: 'bucket', support: 'ignored', help: 'it is the only signature version' },
  listobjectsv2: { kind: 'any', group: 'bucket', support: 'ignored', help: 'used wherever the store knows it' },
  noxmlns: { kind: 'any', group: 'bucket', support: 'ignored', help: 'any name space is understood' },
  requester_pays: { kind: 'flag', group: 'bucket', help: 'agree to pay for requests to a Requester Pays bucket' },
  bucket_size: { kind: 'size', group: 'bucket', value: 'SIZE', min: MIB, help: 'size that df shows, e.g. 10TB' },
} as const satisfies Record<string, OptionSpec>;

const keys = {
  passwd_file: {
    kind: 'path',
    group: 'keys',
    value: 'FILE',
    default: '~/.passwd-s3fs, then /etc/passwd-s3fs',
    help: 'lines KEY:SECRET or BUCKET:KEY:SECRET; must not be readable by others',
  },
  profile: { kind: 'text', group: 'keys', value: 'NAME', help: 'a profile of ~/.aws/credentials' },
  iam_role: { kind: 'optionalText', group: 'keys', value: 'auto', help: 'the role of this EC2 instance' },
  ecs: { kind: 'flag', group: 'keys', help: 'the role of this ECS container' },
  public_bucket: { kind: 'flag', group: 'keys', help: 'send requests without signature' },
  use_session_token: {
    kind: 'flag',
    group: 'keys',
    help: 'insist on AWSSESSIONTOKEN beside AWSACCESSKEYID and AWSSECRETACCESSKEY in the environment',
  },
  imdsv1only: { kind: 'any', group: 'keys', support: 'ignored', help: 'the AWS SDK chooses' },
  ibm_iam_auth: { kind: 'any', group: 'keys', support: 'ignored', help: 'use HMAC keys' },
  ibm_iam_endpoint: { kind: 'any', group: 'keys', support: 'ignored', help: 'use HMAC keys' },
  credlib: { kind: 'any', group: 'keys', support: 'ignored', help: 'no foreign libraries are loaded' },
  credlib_opts: { kind: 'any', group: 'keys', support: 'ignored', help: 'no foreign libraries are loaded' },
} as const satisfies Record<string, OptionSpec>;

const access = {
  allow_other: { kind: 'flag', group: 'access', help: 'let other users in, not only the one who mounts' },
  allow_root: { kind: 'any', group: 'access', support: 'ignored', help: 'use allow_other for more than the own user' },
  default_permissions: {
    kind: 'flag',
    group: 'access',
    default: 'on',
    help: 'the kernel checks modes and owners; off, everybody who is let in may do everything',
  },
  uid: {
    kind: 'count',
    group: 'access',
    value: 'UID',
    default: 'who mounts',
    help: 'owner where an object names none',
  },
  gid: {
    kind: 'count',
    group: 'access',
    value: 'GID',
    default: 'who mounts',
    help: 'group where an object names none',
  },
  umask: {
    kind: 'octal',
    group: 'access',
    value: 'OCTAL',
    default: `0${DEFAULTS.umask.toString(8)}`,
    help: 'taken from 0777 and 0666 where an object names no mode',
  },
  mp_umask: {
    kind: 'octal',
    group: 'access',
    value: 'OCTAL',
    default: '0 with allow_other',
    help: 'the same for the mount point itself',
  },
} as const satisfies Record<string, OptionSpec>;

const cache = {
  use_cache: {
    kind: 'path',
    group: 'cache',
    value: 'DIR',
    default: '/var/cache/tsfs',
    help: 'where the block cache is kept; it may be emptied at any time',
  },
  cache_size: {
    kind: 'size',
    group: 'cache',
    value: 'SIZE',
    default: '10G',
    min: MIB,
    help: 'the block cache never takes more',
  },
  ensure_diskfree: { kind: 'megabytes', group: 'cache', value: 'MB', help: 'leave so much space free on its disk' },
  free_space_ratio: {
    kind: 'percent',
    group: 'cache',
    value: 'PERCENT',
    default: `${DEFAULTS.freeSpacePercent}, or ensure_diskfree`,
    help: 'the same in percent',
  },
  del_cache: { kind: 'flag', group: 'cache', help: 'empty the cache at mount and after unmount' },
  check_cache_dir_exist: { kind: 'any', group: 'cache', support: 'ignored', help: 'the cache directory is made' },
  tmpdir: {
    kind: 'any',
    group: 'cache',
    support: 'ignored',
    help: 'files are staged in state_dir, which survives a reboot',
  },
  state_dir: {
    kind: 'path',
    group: 'cache',
    value: 'DIR',
    default: '/var/lib/tsfs',
    help: 'where index, journal and files that are not uploaded yet are kept',
  },
  max_stat_cache_size: {
    kind: 'count',
    group: 'cache',
    value: 'N',
    default: String(DEFAULTS.maxNodes),
    min: 100,
    help: 'files and directories remembered in memory (all are on disk)',
  },
  stat_cache_expire: {
    kind: 'seconds',
    group: 'cache',
    value: 'SECONDS',
    aliases: ['stat_cache_interval_expire'],
    default: seconds(DEFAULTS.expireMs),
    help: 'after this time changes by others are seen',
  },
  negative_timeout: {
    kind: 'seconds',
    group: 'cache',
    value: 'SECONDS',
    default: seconds(DEFAULTS.negativeTtlMs),
    help: 'after this time a missing name is asked for again',
  },
  enable_noobj_cache: {
    kind: 'flag',
    group: 'cache',
    aliases: ['enable_negative_cache'],
    default: 'on',
    help: 'remember missing names for negative_timeout',
  },
  durability: {
    kind: 'text',
    group: 'cache',
    value: 'remote|local',
    choices: ['remote', 'local'],
    default: 'remote',
    help: 'close(2) returns when the bucket has the file, or already when the local journal has it',
  },
} as const satisfies Record<string, OptionSpec>;

const requests = {
  multireq_max: {
    kind: 'count',
    group: 'requests',
    value: 'N',
    default: String(DEFAULTS.maxMetadataRequests),
    min: 1,
    max: 1000,
    help: 'listings and attribute requests at once',
  },
  parallel_count: {
    kind: 'count',
    group: 'requests',
    value: 'N',
    aliases: ['parallel_upload'],
    default: String(DEFAULTS.parallelParts),
    min: 1,
    max: 100,
    help: 'parts of one large upload at once',
  },
  max_thread_count: {
    kind: 'count',
    group: 'requests',
    value: 'N',
    default: String(DEFAULTS.maxRequests),
    min: 1,
    max: 1000,
    help: 'requests of all kinds at once',
  },
  multipart_size: {
    kind: 'megabytes',
    group: 'requests',
    value: 'MB',
    default: mebibytes(DEFAULTS.partSizeBytes),
    min: 5 * MIB,
    max: 5120 * MIB,
    help: 'size of the parts of a large upload',
  },
  multipart_copy_size: {
    kind: 'megabytes',
    group: 'requests',
    value: 'MB',
    default: mebibytes(DEFAULTS.copyPartSizeBytes),
    min: 5 * MIB,
    max: 5120 * MIB,
    help: 'size of the parts of a large copy within the store',
  },
  multipart_threshold: {
    kind: 'megabytes',
    group: 'requests',
    value: 'MB',
    default: mebibytes(DEFAULTS.multipartThresholdBytes),
    min: 5 * MIB,
    max: 5120 * MIB,
    help: 'larger files are uploaded in parts',
  },
  singlepart_copy_limit: {
    kind: 'megabytes',
    group: 'requests',
    value: 'MB',
    default: mebibytes(DEFAULTS.singleCopyLimitBytes),
    min: 5 * MIB,
    max: 5120 * MIB,
    help: 'larger objects are copied in parts',
  },
  nomultipart: { kind: 'flag', group: 'requests', help: 'upload in one piece, up to 5 GiB' },
  retries: {
    kind: 'count',
    group: 'requests',
    value: 'N',
    default: String(DEFAULTS.retries),
    max: 100,
    help: 'further tries of a request that failed for want of network or service',
  },
  connect_timeout: {
    kind: 'seconds',
    group: 'requests',
    value: 'SECONDS',
    default: seconds(DEFAULTS.connectTimeoutMs),
    min: 100,
    help: 'time for a connection to come up',
  },
  readwrite_timeout: {
    kind: 'seconds',
    group: 'requests',
    value: 'SECONDS',
    default: seconds(DEFAULTS.idleTimeoutMs),
    min: 100,
    help: 'longest silence on a connection',
  },
  no_check_certificate: { kind: 'flag', group: 'requests', help: 'do not check the TLS certificate of the store' },
  ssl_verify_hostname: {
    kind: 'text',
    group: 'requests',
    value: '0|2',
    choices: ['0', '1', '2'],
    default: '2',
    help: '0: do not check that the certificate is for this host',
  },
  proxy: { kind: 'url', group: 'requests', value: 'URL', help: 'HTTP proxy on the way to the store' },
  max_dirty_data: { kind: 'any', group: 'requests', support: 'ignored', help: 'what is written waits on disk' },
  nocopyapi: { kind: 'any', group: 'requests', support: 'ignored', help: 'rename and chmod need the store to copy' },
  norenameapi: { kind: 'any', group: 'requests', support: 'ignored', help: 'rename needs the store to copy' },
  nomixupload: {
    kind: 'any',
    group: 'requests',
    support: 'ignored',
    help: 'unchanged parts are copied where the store can',
  },
  streamupload: { kind: 'any', group: 'requests', support: 'ignored', help: 'files are staged on disk' },
  putheader_mp_threshold: { kind: 'any', group: 'requests', support: 'ignored', help: 'see singlepart_copy_limit' },
  list_object_max_keys: { kind: 'any', group: 'requests', support: 'ignored', help: 'listings have 1000 names a page' },
  enable_content_md5: { kind: 'flag', group: 'requests', support: 'builtin', help: 'uploads carry a checksum' },
  enable_unsigned_payload: { kind: 'any', group: 'requests', support: 'ignored', help: 'the AWS SDK decides' },
  ssl_client_cert: { kind: 'any', group: 'requests', support: 'ignored', help: 'keys identify the client' },
  proxy_cred_file: {
    kind: 'any',
    group: 'requests',
    support: 'ignored',
    help: 'only proxies without password are used',
  },
  cipher_suites: { kind: 'any', group: 'requests', support: 'ignored', help: 'those of Node are used' },
  nodnscache: { kind: 'any', group: 'requests', support: 'ignored', help: 'nothing is cached but by the system' },
  nosscache: { kind: 'any', group: 'requests', support: 'ignored', help: 'connections are kept open' },
  ipresolve: { kind: 'any', group: 'requests', support: 'ignored', help: 'whichever of IPv4 and IPv6 answers is used' },
  noua: { kind: 'any', group: 'requests', support: 'ignored', help: 'requests name the AWS SDK' },
} as const satisfies Record<string, OptionSpec>;

const CANNED_ACLS = [
  'private',
  'public-read',
  'public-read-write',
  'aws-exec-read',
  'authenticated-read',
  'bucket-owner-read',
  'bucket-owner-full-control',
] as const;

const objects = {
  default_acl: {
    kind: 'text',
    group: 'objects',
    value: 'ACL',
    choices: CANNED_ACLS,
    default: 'none sent',
    help: 'canned ACL of what is written, e.g. public-read',
  },
  storage_class: { kind: 'text', group: 'objects', value: 'CLASS', help: 'storage class of what is written' },
  use_rrs: { kind: 'any', group: 'objects', support: 'ignored', help: 'use storage_class' },
  use_sse: {
    kind: 'optionalText',
    group: 'objects',
    value: '1|custom:FILE|kmsid:ID',
    help: "encryption at rest: with the store's key, with one of a file, with one of KMS",
  },
  load_sse_c: {
    kind: 'any',
    group: 'objects',
    support: 'ignored',
    help: 'put the keys into the file of use_sse=custom:FILE',
  },
  ahbe_conf: {
    kind: 'path',
    group: 'objects',
    value: 'FILE',
    help: 'headers by path: lines [SUFFIX or reg:EXPRESSION] HEADER VALUE',
  },
  mime: {
    kind: 'path',
    group: 'objects',
    value: 'FILE',
    help: 'a mime.types file: Content-Type by extension, before the built-in table',
  },
  use_xattr: { kind: 'flag', group: 'objects', support: 'builtin', help: 'extended attributes are kept' },
  compat_dir: { kind: 'flag', group: 'objects', support: 'builtin', help: 'directories of other tools are seen' },
  update_parent_dir_stat: {
    kind: 'flag',
    group: 'objects',
    support: 'builtin',
    help: 'changes in a directory change its mtime',
  },
  notsup_compat_dir: {
    kind: 'any',
    group: 'objects',
    support: 'ignored',
    help: 'directories of other tools cost nothing',
  },
  complement_stat: { kind: 'any', group: 'objects', support: 'ignored', help: 'missing modes are always filled in' },
  use_wtf8: { kind: 'any', group: 'objects', support: 'ignored', help: 'names are UTF-8' },
  hard_remove: { kind: 'any', group: 'objects', support: 'ignored', help: 'open files stay readable after unlink' },
} as const satisfies Record<string, OptionSpec>;

const log = {
  dbglevel: {
    kind: 'text',
    group: 'log',
    value: 'crit|err|warn|info|dbg',
    choices: [
      'crit',
      'critical',
      'err',
      'error',
      'warn',
      'warning',
      'wan',
      'info',
      'inf',
      'information',
      'dbg',
      'debug',
    ],
    default: DEFAULTS.logLevel,
    help: 'what is logged',
  },
  curldbg: {
    kind: 'optionalText',
    group: 'log',
    value: 'normal|body',
    choices: ['', 'normal', 'body'],
    help: 'log each request to the store (never bodies or signatures)',
  },
  logfile: {
    kind: 'path',
    group: 'log',
    value: 'FILE',
    default: '/var/log/tsfs/NAME.log',
    help: `stderr with --foreground; moved to FILE.1 at ${mebibytes(DEFAULTS.logFileLimitBytes)} MiB, reopened at SIGHUP`,
  },
  instance_name: { kind: 'any', group: 'log', support: 'ignored', help: 'each mount has its own log file' },
  no_time_stamp_msg: { kind: 'any', group: 'log', support: 'ignored', help: 'log lines have their time' },
  insecure_logging: { kind: 'any', group: 'log', support: 'ignored', help: 'keys and signatures are never logged' },
  set_check_cache_sigusr1: {
    kind: 'any',
    group: 'log',
    support: 'ignored',
    help: 'cached blocks are checked when they are used',
  },
} as const satisfies Record<string, OptionSpec>;

const mount = {
  ro: { kind: 'flag', group: 'mount', opposite: 'rw', help: 'mount read-only' },
  nodev: {
    kind: 'any',
    group: 'mount',
    support: 'builtin',
    aliases: ['nosuid'],
    help: 'files of a bucket have no such rights',
  },
  dev: {
    kind: 'any',
    group: 'mount',
    support: 'ignored',
    aliases: ['suid'],
    help: 'files of a bucket have no such rights',
  },
  noexec: { kind: 'flag', group: 'mount', opposite: 'exec', help: 'no programs are run from here' },
  noatime: { kind: 'flag', group: 'mount', opposite: 'atime', help: 'reading leaves access times alone' },
  nonempty: { kind: 'flag', group: 'mount', help: 'say nothing when DIR has files, which the mount hides' },
  driver: {
    kind: 'text',
    group: 'mount',
    value: 'native|portable',
    choices: ['native', 'portable'],
    default: 'native',
    help: 'portable: through libfuse 2 and the npm package fuse-native, where the native addon cannot be built; slower',
  },
  passthrough: {
    kind: 'flag',
    group: 'mount',
    opposite: 'no_passthrough',
    default: 'on',
    help: 'let the kernel write to staged files directly, where it can',
  },
  ro_view: {
    kind: 'path',
    group: 'mount',
    value: 'DIR',
    help: 'mount the same there too, read-only and without a word to the daemon for what is read often; for web servers',
  },
  hot_table: {
    kind: 'flag',
    group: 'mount',
    opposite: 'no_hot_table',
    default: 'on',
    help: 'let native threads answer for files that are read often',
  },
  max_background: { kind: 'any', group: 'mount', support: 'ignored', help: 'tsfs bounds what it has in flight' },
  kernel_cache: {
    kind: 'flag',
    group: 'mount',
    support: 'builtin',
    help: 'what the kernel has cached stays while it is true',
  },
  big_writes: {
    kind: 'flag',
    group: 'mount',
    support: 'builtin',
    help: 'writes are as large as the kernel makes them',
  },
  attr_timeout: { kind: 'any', group: 'mount', support: 'ignored', help: 'see stat_cache_expire' },
  entry_timeout: { kind: 'any', group: 'mount', support: 'ignored', help: 'see stat_cache_expire' },
  remount: {
    kind: 'any',
    group: 'mount',
    support: 'refused',
    help: 'tsfs restart DIR -o … gives a mount other options, or unmount it and mount it anew',
  },
  _netdev: {
    kind: 'any',
    group: 'mount',
    support: 'builtin',
    aliases: [
      'auto',
      'noauto',
      'user',
      'users',
      'nouser',
      'owner',
      'group',
      'nofail',
      'defaults',
      'x-*',
      'X-*',
      'comment',
    ],
    help: 'for mount(8) and systemd',
  },
  relatime: {
    kind: 'any',
    group: 'mount',
    support: 'builtin',
    aliases: [
      ...['norelatime', 'strictatime', 'nostrictatime', 'diratime', 'nodiratime', 'lazytime', 'nolazytime'],
      ...['sync', 'async', 'dirsync', 'iversion', 'noiversion', 'mand', 'nomand', 'silent', 'loud'],
    ],
    help: 'accepted for the sake of old lines',
  },
  fsname: {
    kind: 'any',
    group: 'mount',
    support: 'builtin',
    aliases: ['subtype', 'auto_unmount', 'noforget', 'max_read', 'max_write', 'auto_cache', 'ac_attr_timeout'],
    help: 'tsfs sets what FUSE needs',
  },
} as const satisfies Record<string, OptionSpec>;

export const OPTIONS = { ...bucket, ...keys, ...access, ...cache, ...requests, ...objects, ...log, ...mount } as const;

export type OptionName = keyof typeof OPTIONS;

/** The table, seen as one type. */
export const OPTION_SPECS: readonly (readonly [OptionName, OptionSpec])[] = Object.entries(OPTIONS) as [
  OptionName,
  OptionSpec,
][];

interface KindValues {
  flag: boolean;
  text: string;
  optionalText: string;
  path: string;
  url: string;
  count: number;
  seconds: number;
  megabytes: number;
  size: number;
  percent: number;
  octal: number;
  any: string;
}

/** What was given, in the units named at `OptionKind`. */
export type OptionValues = { readonly [Name in OptionName]?: KindValues[(typeof OPTIONS)[Name]['kind']] };
