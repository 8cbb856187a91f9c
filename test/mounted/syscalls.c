/*
 * System calls that shells and Node lack, for tests: `syscalls DIR` reads one call a line from stdin, makes it in DIR and prints
 * one line with its result: a number, text, or the name of the error. Arguments are separated by blanks; descriptors and mappings
 * are kept in numbered slots, so that one script can hold several open.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef FALLOC_FL_KEEP_SIZE
#include <linux/falloc.h>
#endif

enum { SLOTS = 16, MAX_ARGS = 16, MAX_READ = 1 << 16 };

static int fds[SLOTS];
static struct {
  char *bytes;
  size_t length;
} maps[SLOTS];

struct word {
  const char *name;
  long value;
};

static const struct word open_flags[] = {
    {"r", O_RDONLY},       {"w", O_WRONLY},           {"rw", O_RDWR},   {"creat", O_CREAT},
    {"excl", O_EXCL},      {"trunc", O_TRUNC},        {"append", O_APPEND}, {"direct", O_DIRECT},
    {"directory", O_DIRECTORY}, {"nofollow", O_NOFOLLOW}, {"path", O_PATH}, {"sync", O_SYNC},
    {"tmpfile", O_TMPFILE}, {NULL, 0}};
static const struct word whences[] = {{"set", SEEK_SET}, {"cur", SEEK_CUR},   {"end", SEEK_END},
                                      {"data", SEEK_DATA}, {"hole", SEEK_HOLE}, {NULL, 0}};
static const struct word allocate_modes[] = {{"none", 0},
                                             {"keep", FALLOC_FL_KEEP_SIZE},
                                             {"punch", FALLOC_FL_PUNCH_HOLE},
                                             {"zero", FALLOC_FL_ZERO_RANGE},
                                             {"collapse", FALLOC_FL_COLLAPSE_RANGE},
                                             {NULL, 0}};
static const struct word rename_flags[] = {{"none", 0},
                                           {"noreplace", RENAME_NOREPLACE},
                                           {"exchange", RENAME_EXCHANGE},
                                           {"whiteout", RENAME_WHITEOUT},
                                           {NULL, 0}};
static const struct word xattr_flags[] = {{"none", 0}, {"create", XATTR_CREATE}, {"replace", XATTR_REPLACE}, {NULL, 0}};
static const struct word locks[] = {{"sh", LOCK_SH}, {"ex", LOCK_EX}, {"un", LOCK_UN}, {"nb", LOCK_NB}, {NULL, 0}};
static const struct word lock_types[] = {{"read", F_RDLCK}, {"write", F_WRLCK}, {"none", F_UNLCK}, {NULL, 0}};
static const struct word access_modes[] = {{"f", F_OK}, {"r", R_OK}, {"w", W_OK}, {"x", X_OK}, {NULL, 0}};
static const struct word sharings[] = {{"shared", MAP_SHARED}, {"private", MAP_PRIVATE}, {NULL, 0}};
static const struct word node_types[] = {{"file", S_IFREG}, {"fifo", S_IFIFO}, {"socket", S_IFSOCK},
                                         {"char", S_IFCHR}, {"block", S_IFBLK}, {NULL, 0}};

static void fail_usage(const char *what) {
  fprintf(stderr, "syscalls: %s\n", what);
  exit(2);
}

/* The sum of comma-separated words. */
static long words(const struct word *table, const char *text) {
  char copy[128];
  long value = 0;
  if (strlen(text) >= sizeof copy) fail_usage(text);
  strcpy(copy, text);
  for (char *part = strtok(copy, ","); part != NULL; part = strtok(NULL, ",")) {
    const struct word *word = table;
    while (word->name != NULL && strcmp(word->name, part) != 0) word++;
    if (word->name == NULL) fail_usage(part);
    value |= word->value;
  }
  return value;
}

static int slot(const char *text) {
  int number = atoi(text);
  if (number < 0 || number >= SLOTS) fail_usage("no such slot");
  return number;
}

static int fd_of(const char *text) { return fds[slot(text)]; }

static void print_bytes(const char *bytes, ssize_t length) {
  putchar('"');
  for (ssize_t i = 0; i < length; i++) {
    unsigned char c = (unsigned char)bytes[i];
    if (c > 32 && c < 127 && c != '\\') putchar(c);
    else if (c == 0) putchar('.');
    else printf("\\x%02x", c);
  }
  putchar('"');
}

static void print_result(long result) {
  if (result < 0) printf("%s", strerrorname_np(errno));
  else printf("%ld", result);
}

/* atime and mtime as `now`, `omit` or `SEC.NSEC`. */
static struct timespec parse_time(const char *text) {
  struct timespec time = {0, 0};
  if (strcmp(text, "now") == 0) time.tv_nsec = UTIME_NOW;
  else if (strcmp(text, "omit") == 0) time.tv_nsec = UTIME_OMIT;
  else sscanf(text, "%ld.%9ld", &time.tv_sec, &time.tv_nsec);
  return time;
}

static const char *type_name(mode_t mode) {
  if (S_ISREG(mode)) return "file";
  if (S_ISDIR(mode)) return "directory";
  return S_ISLNK(mode) ? "symlink" : "other";
}

/* The named fields of a stat, in the order asked for. */
static void print_stat(const struct stat *status, const char *fields) {
  char copy[128];
  if (strlen(fields) >= sizeof copy) fail_usage(fields);
  strcpy(copy, fields);
  const char *separator = "";
  for (char *field = strtok(copy, ","); field != NULL; field = strtok(NULL, ",")) {
    printf("%s", separator);
    separator = " ";
    if (strcmp(field, "type") == 0) printf("%s", type_name(status->st_mode));
    else if (strcmp(field, "mode") == 0) printf("%04o", status->st_mode & 07777);
    else if (strcmp(field, "size") == 0) printf("%ld", (long)status->st_size);
    else if (strcmp(field, "nlink") == 0) printf("%ld", (long)status->st_nlink);
    else if (strcmp(field, "uid") == 0) printf("%u", status->st_uid);
    else if (strcmp(field, "gid") == 0) printf("%u", status->st_gid);
    else if (strcmp(field, "ino") == 0) printf("%lu", (unsigned long)status->st_ino);
    else if (strcmp(field, "mtime") == 0) printf("%ld.%09ld", status->st_mtim.tv_sec, status->st_mtim.tv_nsec);
    else if (strcmp(field, "atime") == 0) printf("%ld.%09ld", status->st_atim.tv_sec, status->st_atim.tv_nsec);
    else if (strcmp(field, "ctime") == 0) printf("%ld.%09ld", status->st_ctim.tv_sec, status->st_ctim.tv_nsec);
    else fail_usage(field);
  }
}

static void do_stat(int result, const struct stat *status, const char *fields) {
  if (result < 0) print_result(result);
  else print_stat(status, fields);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list(const char *path) {
  char *names[1024];
  int count = 0;
  DIR *directory = opendir(path);
  if (directory == NULL) {
    print_result(-1);
    return;
  }
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    if (count == 1024) fail_usage("too many names");
    names[count++] = strdup(entry->d_name);
  }
  closedir(directory);
  qsort(names, (size_t)count, sizeof names[0], by_name);
  for (int i = 0; i < count; i++) printf("%s%s", i == 0 ? "" : " ", names[i]);
  if (count == 0) printf("(empty)");
}

static long become(uid_t uid) {
  if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0) return -1;
  return setresuid(uid, uid, uid);
}

static long lock_range(int fd, int command, const char *type, long start, long length) {
  struct flock lock = {.l_type = (short)words(lock_types, type), .l_whence = SEEK_SET, .l_start = start, .l_len = length};
  return fcntl(fd, command, &lock);
}

/* O_DIRECT wants aligned memory. */
static long direct_write(int fd, long offset, long length, char byte) {
  void *bytes;
  if (posix_memalign(&bytes, 4096, (size_t)length) != 0) fail_usage("no memory");
  memset(bytes, byte, (size_t)length);
  return pwrite(fd, bytes, (size_t)length, offset);
}

static void read_at(int fd, long offset, long length, int has_offset) {
  static char bytes[MAX_READ] __attribute__((aligned(4096)));
  if (length > MAX_READ) fail_usage("reads are short");
  ssize_t count = has_offset ? pread(fd, bytes, (size_t)length, offset) : read(fd, bytes, (size_t)length);
  if (count < 0) print_result(count);
  else print_bytes(bytes, count);
}

static int is(const char *call, const char *name, int argc, int needed) {
  if (strcmp(call, name) != 0) return 0;
  if (argc != needed) fail_usage(name);
  return 1;
}

static long map(char **a) {
  int at = slot(a[1]);
  long length = atol(a[3]);
  maps[at].length = (size_t)length;
  maps[at].bytes = mmap(NULL, (size_t)length, PROT_READ | PROT_WRITE, (int)words(sharings, a[4]), fd_of(a[2]), 0);
  return maps[at].bytes == MAP_FAILED ? -1 : 0;
}

static int content_call(int n, char **a) {
  off_t from, to;
  if (is(a[0], "open", n, 5)) {
    int fd = open(a[2], (int)words(open_flags, a[3]), (mode_t)strtol(a[4], NULL, 8));
    fds[slot(a[1])] = fd;
    print_result(fd < 0 ? -1 : 0);
  } else if (is(a[0], "close", n, 2)) print_result(close(fd_of(a[1])));
  else if (is(a[0], "write", n, 3)) print_result(write(fd_of(a[1]), a[2], strlen(a[2])));
  else if (is(a[0], "pwrite", n, 4)) print_result(pwrite(fd_of(a[1]), a[3], strlen(a[3]), atol(a[2])));
  else if (is(a[0], "dwrite", n, 5)) print_result(direct_write(fd_of(a[1]), atol(a[2]), atol(a[3]), a[4][0]));
  else if (is(a[0], "read", n, 3)) read_at(fd_of(a[1]), 0, atol(a[2]), 0);
  else if (is(a[0], "pread", n, 4)) read_at(fd_of(a[1]), atol(a[2]), atol(a[3]), 1);
  else if (is(a[0], "seek", n, 4)) print_result(lseek(fd_of(a[1]), atol(a[2]), (int)words(whences, a[3])));
  else if (is(a[0], "fsync", n, 2)) print_result(fsync(fd_of(a[1])));
  else if (is(a[0], "fdatasync", n, 2)) print_result(fdatasync(fd_of(a[1])));
  else if (is(a[0], "ftruncate", n, 3)) print_result(ftruncate(fd_of(a[1]), atol(a[2])));
  else if (is(a[0], "truncate", n, 3)) print_result(truncate(a[1], atol(a[2])));
  else if (is(a[0], "fallocate", n, 5))
    print_result(fallocate(fd_of(a[1]), (int)words(allocate_modes, a[4]), atol(a[2]), atol(a[3])));
  else if (is(a[0], "copyrange", n, 6)) {
    from = atol(a[2]);
    to = atol(a[4]);
    print_result(copy_file_range(fd_of(a[1]), &from, fd_of(a[3]), &to, (size_t)atol(a[5]), 0));
  } else if (is(a[0], "sendfile", n, 5)) {
    from = atol(a[3]);
    print_result(sendfile(fd_of(a[1]), fd_of(a[2]), &from, (size_t)atol(a[4])));
  } else if (is(a[0], "mmap", n, 5)) print_result(map(a));
  else if (is(a[0], "poke", n, 4)) {
    memcpy(maps[slot(a[1])].bytes + atol(a[2]), a[3], strlen(a[3]));
    printf("0");
  } else if (is(a[0], "peek", n, 4)) print_bytes(maps[slot(a[1])].bytes + atol(a[2]), atol(a[3]));
  else if (is(a[0], "msync", n, 2)) print_result(msync(maps[slot(a[1])].bytes, maps[slot(a[1])].length, MS_SYNC));
  else if (is(a[0], "munmap", n, 2)) print_result(munmap(maps[slot(a[1])].bytes, maps[slot(a[1])].length));
  else return 0;
  return 1;
}

static int name_call(int n, char **a) {
  static char text[4097];
  if (is(a[0], "link", n, 3)) print_result(link(a[1], a[2]));
  else if (is(a[0], "symlink", n, 3)) print_result(symlink(a[1], a[2]));
  else if (is(a[0], "readlink", n, 2)) {
    ssize_t length = readlink(a[1], text, sizeof text - 1);
    if (length < 0) print_result(length);
    else print_bytes(text, length);
  } else if (is(a[0], "unlink", n, 2)) print_result(unlink(a[1]));
  else if (is(a[0], "mkdir", n, 3)) print_result(mkdir(a[1], (mode_t)strtol(a[2], NULL, 8)));
  else if (is(a[0], "rmdir", n, 2)) print_result(rmdir(a[1]));
  else if (is(a[0], "mknod", n, 4))
    print_result(mknod(a[1], (mode_t)(words(node_types, a[2]) | strtol(a[3], NULL, 8)), makedev(1, 3)));
  else if (is(a[0], "rename", n, 3)) print_result(rename(a[1], a[2]));
  else if (is(a[0], "rename2", n, 4))
    print_result(renameat2(AT_FDCWD, a[1], AT_FDCWD, a[2], (unsigned)words(rename_flags, a[3])));
  else if (is(a[0], "ls", n, 2)) list(a[1]);
  else if (is(a[0], "fsyncdir", n, 2)) {
    int fd = open(a[1], O_RDONLY | O_DIRECTORY);
    print_result(fd < 0 ? -1 : fsync(fd));
    if (fd >= 0) close(fd);
  } else return 0;
  return 1;
}

static int attribute_call(int n, char **a) {
  struct stat status;
  struct statvfs system;
  static char value[MAX_READ];
  if (is(a[0], "stat", n, 3)) do_stat(stat(a[1], &status), &status, a[2]);
  else if (is(a[0], "lstat", n, 3)) do_stat(lstat(a[1], &status), &status, a[2]);
  else if (is(a[0], "fstat", n, 3)) do_stat(fstat(fd_of(a[1]), &status), &status, a[2]);
  else if (is(a[0], "chmod", n, 3)) print_result(chmod(a[1], (mode_t)strtol(a[2], NULL, 8)));
  else if (is(a[0], "fchmod", n, 3)) print_result(fchmod(fd_of(a[1]), (mode_t)strtol(a[2], NULL, 8)));
  else if (is(a[0], "chown", n, 4)) print_result(lchown(a[1], (uid_t)atol(a[2]), (gid_t)atol(a[3])));
  else if (is(a[0], "utimens", n, 4)) {
    struct timespec times[2] = {parse_time(a[2]), parse_time(a[3])};
    print_result(utimensat(AT_FDCWD, a[1], times, AT_SYMLINK_NOFOLLOW));
  } else if (is(a[0], "futimens", n, 4)) {
    struct timespec times[2] = {parse_time(a[2]), parse_time(a[3])};
    print_result(futimens(fd_of(a[1]), times));
  } else if (is(a[0], "setxattr", n, 5))
    print_result(lsetxattr(a[1], a[2], a[3], strlen(a[3]), (int)words(xattr_flags, a[4])));
  else if (is(a[0], "getxattr", n, 3)) {
    ssize_t length = lgetxattr(a[1], a[2], value, sizeof value);
    if (length < 0) print_result(length);
    else print_bytes(value, length);
  } else if (is(a[0], "listxattr", n, 2)) {
    ssize_t length = llistxattr(a[1], value, sizeof value);
    if (length < 0) print_result(length);
    else print_bytes(value, length);
  } else if (is(a[0], "removexattr", n, 3)) print_result(lremovexattr(a[1], a[2]));
  else if (is(a[0], "access", n, 3)) print_result(access(a[1], (int)words(access_modes, a[2])));
  else if (is(a[0], "statfs", n, 2)) {
    int result = statvfs(a[1], &system);
    if (result < 0) print_result(result);
    else printf("%s %lu", system.f_bavail > 0 ? "room" : "full", system.f_namemax);
  } else return 0;
  return 1;
}

static int process_call(int n, char **a) {
  if (is(a[0], "flock", n, 3)) print_result(flock(fd_of(a[1]), (int)words(locks, a[2])));
  else if (is(a[0], "lock", n, 5))
    print_result(lock_range(fd_of(a[1]), F_OFD_SETLK, a[2], atol(a[3]), atol(a[4])));
  else if (is(a[0], "become", n, 2)) print_result(become((uid_t)atol(a[1])));
  else if (is(a[0], "umask", n, 2)) {
    umask((mode_t)strtol(a[1], NULL, 8));
    printf("0");
  } else if (is(a[0], "sleep", n, 2)) {
    usleep((useconds_t)atol(a[1]) * 1000);
    printf("0");
  } else return 0;
  return 1;
}

int main(int argc, char **argv) {
  static char line[8192];
  if (argc != 2 || chdir(argv[1]) < 0) fail_usage("the argument is a directory");
  umask(022);
  for (int i = 0; i < SLOTS; i++) fds[i] = -1;
  while (fgets(line, sizeof line, stdin) != NULL) {
    char *a[MAX_ARGS];
    int n = 0;
    for (char *part = strtok(line, " \n"); part != NULL && n < MAX_ARGS; part = strtok(NULL, " \n")) a[n++] = part;
    if (n == 0) continue;
    if (!content_call(n, a) && !name_call(n, a) && !attribute_call(n, a) && !process_call(n, a)) fail_usage(a[0]);
    putchar('\n');
    fflush(stdout);
  }
  return 0;
}
