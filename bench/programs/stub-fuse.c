/*
 * The least that a FUSE file system can do: no library, one thread, everything in memory, nothing looked up.
 *
 *     stub-fuse opens|opens-awake|no-opens DIR FILES BYTES
 *
 * Mounts `images/N.jpg` on DIR and serves them until it is unmounted. With `no-opens` the kernel is told once that files need
 * not be opened, as on a read-only mount; else each open is answered. `opens-awake` does not sleep between the requests of a busy
 * client: to wake it costs nothing then.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common.h"

enum { ROOT = FUSE_ROOT_ID, IMAGES = 2, FIRST_FILE = 3, BUFFER_BYTES = 1024 * 1024 + 4096, TTL_S = 3600 };
/* Later the client has ended: who stayed awake would take a CPU from those who are measured beside this. */
enum { LOOKS_AWAKE = 10000 };

static char request[BUFFER_BYTES];
static char content[BUFFER_BYTES];
static int device, has_opens;
static long files, bytes;

static void reply(uint64_t unique, int error, const void *body, size_t size) {
  struct fuse_out_header header = {sizeof header + (error ? 0 : size), -error, unique};
  struct iovec parts[] = {{&header, sizeof header}, {(void *)body, error ? 0 : size}};
  if (writev(device, parts, 2) < 0 && errno != ENOENT && errno != ENODEV) die("writev");
}

static struct fuse_attr attributes(uint64_t node) {
  struct fuse_attr attr = {.ino = node, .nlink = 1, .blksize = 4096};
  attr.mode = node < FIRST_FILE ? S_IFDIR | 0755 : S_IFREG | 0644;
  attr.size = node < FIRST_FILE ? 4096 : (uint64_t)bytes;
  return attr;
}

static void lookup(uint64_t unique, uint64_t parent, const char *name) {
  long number = atol(name);
  uint64_t node = parent == ROOT && strcmp(name, "images") == 0       ? IMAGES
                  : parent == IMAGES && number >= 0 && number < files ? FIRST_FILE + (uint64_t)number
                                                                      : 0;
  struct fuse_entry_out entry = {.nodeid = node, .entry_valid = TTL_S, .attr_valid = TTL_S};
  if (node != 0) entry.attr = attributes(node);
  reply(unique, node == 0 ? ENOENT : 0, &entry, sizeof entry);
}

static void read_directory(uint64_t unique, uint64_t node, uint64_t offset, size_t limit) {
  size_t size = 0;
  long count = node == ROOT ? 1 : files;
  for (long i = (long)offset; i < count; i++) {
    char name[32];
    int length = node == ROOT ? sprintf(name, "images") : sprintf(name, "%ld.jpg", i);
    struct fuse_dirent *entry = (struct fuse_dirent *)(content + size);
    size_t next = size + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + (size_t)length);
    if (next > limit) break;
    entry->ino = node == ROOT ? IMAGES : FIRST_FILE + (uint64_t)i;
    entry->off = (uint64_t)i + 1;
    entry->namelen = (uint32_t)length;
    entry->type = (node == ROOT ? S_IFDIR : S_IFREG) >> 12;
    memcpy(entry->name, name, (size_t)length);
    size = next;
  }
  reply(unique, 0, content, size);
}

static void begin(uint64_t unique, const struct fuse_init_in *in) {
  struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = in->minor, .max_readahead = in->max_readahead};
  if (out.minor > FUSE_KERNEL_MINOR_VERSION) out.minor = FUSE_KERNEL_MINOR_VERSION;
  out.flags = in->flags & (FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS | FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT);
  out.max_background = 64;
  out.congestion_threshold = 48;
  out.max_write = 128 * 1024;
  out.time_gran = 1;
  reply(unique, 0, &out, sizeof out);
}

static void answer(const struct fuse_in_header *header) {
  const char *body = (const char *)(header + 1);
  uint64_t unique = header->unique;
  switch (header->opcode) {
    case FUSE_INIT:
      return begin(unique, (const struct fuse_init_in *)body);
    case FUSE_LOOKUP:
      return lookup(unique, header->nodeid, body);
    case FUSE_GETATTR: {
      struct fuse_attr_out out = {.attr_valid = TTL_S, .attr = attributes(header->nodeid)};
      return reply(unique, 0, &out, sizeof out);
    }
    case FUSE_OPEN: {
      struct fuse_open_out out = {.open_flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH};
      return reply(unique, has_opens ? 0 : ENOSYS, &out, sizeof out);
    }
    case FUSE_OPENDIR: {
      struct fuse_open_out out = {0};
      return reply(unique, 0, &out, sizeof out);
    }
    case FUSE_READ: {
      const struct fuse_read_in *in = (const struct fuse_read_in *)body;
      size_t left = in->offset < (uint64_t)bytes ? (uint64_t)bytes - in->offset : 0;
      return reply(unique, 0, content, in->size < left ? in->size : left);
    }
    case FUSE_READDIR: {
      const struct fuse_read_in *in = (const struct fuse_read_in *)body;
      return read_directory(unique, header->nodeid, in->offset, in->size);
    }
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
      return reply(unique, 0, NULL, 0);
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
      return;
    default:
      return reply(unique, ENOSYS, NULL, 0);
  }
}

int main(int argc, char **argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: stub-fuse opens|opens-awake|no-opens DIR FILES BYTES\n");
    return 2;
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  has_opens = strcmp(argv[1], "no-opens") != 0;
  files = atol(argv[3]);
  bytes = atol(argv[4]);
  device = open("/dev/fuse", O_RDWR | (strcmp(argv[1], "opens-awake") == 0 ? O_NONBLOCK : 0));
  if (device < 0) die("/dev/fuse");
  char options[100];
  snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,max_read=131072", device);
  if (mount("stub", argv[2], "fuse.stub", MS_NOSUID | MS_NODEV, options) != 0) die("mount");
  for (int looks = 0;;) {
    ssize_t size = read(device, request, sizeof request);
    if (size < 0 && errno == ENODEV) return 0;
    if (size < 0 && errno != EINTR && errno != ENOENT && errno != EAGAIN) die("read");
    if (size < 0 && errno == EAGAIN && ++looks > LOOKS_AWAKE) {
      struct pollfd readable = {device, POLLIN, 0};
      poll(&readable, 1, -1);
    }
    if (size < (ssize_t)sizeof(struct fuse_in_header)) continue;
    looks = 0;
    answer((const struct fuse_in_header *)request);
  }
}
