/*
 * Many small files, by some processes at once, for so long at most.
 *
 *     small-files create DIR COUNT BYTES WRITERS LIMIT_MS
 *     small-files copy DIR FROM_DIR WRITERS LIMIT_MS      DIR is made
 *     small-files delete DIR WRITERS LIMIT_MS             DIR too, if everything in it went
 *
 * Prints the number of files that were done, and microseconds.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { MAX_FILES = 100000, MAX_BYTES = 1024 * 1024, MAX_WRITERS = 64, GRACE_S = 120 };

struct shared {
  atomic_long next;
  atomic_long done;
};

static char *names[MAX_FILES];
static long name_count;
static int directory, source;
static char buffer[MAX_BYTES];
static size_t file_bytes;

static int open_directory(const char *path) {
  int fd = open(path, O_RDONLY | O_DIRECTORY);
  if (fd < 0) die(path);
  return fd;
}

static int make_directory(const char *path) {
  if (mkdir(path, 0755) != 0) die(path);
  return open_directory(path);
}

static void list_names(const char *path) {
  DIR *stream = opendir(path);
  if (stream == NULL) die(path);
  struct dirent *entry;
  while ((entry = readdir(stream)) != NULL && name_count < MAX_FILES) {
    if (entry->d_name[0] != '.') names[name_count++] = strdup(entry->d_name);
  }
  closedir(stream);
}

static void make_names(long count) {
  for (long i = 0; i < count && i < MAX_FILES; i++) {
    if (asprintf(&names[name_count++], "%05ld.jpg", i) < 0) die("asprintf");
  }
}

static void put(const char *name, size_t bytes) {
  int fd = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
  if (fd < 0) die(name);
  if (write(fd, buffer, bytes) != (ssize_t)bytes) die(name);
  if (close(fd) != 0) die(name);
}

static void create_one(const char *name) { put(name, file_bytes); }

static void copy_one(const char *name) {
  int fd = openat(source, name, O_RDONLY);
  if (fd < 0) die(name);
  ssize_t bytes = read(fd, buffer, sizeof buffer);
  if (bytes < 0) die(name);
  close(fd);
  put(name, (size_t)bytes);
}

static void delete_one(const char *name) {
  if (unlinkat(directory, name, 0) != 0) die(name);
}

static void work(void (*act)(const char *), struct shared *shared, long end_us) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  while (now_us() < end_us) {
    long mine = atomic_fetch_add(&shared->next, 1);
    if (mine >= name_count) break;
    act(names[mine]);
    atomic_fetch_add(&shared->done, 1);
  }
  _exit(0);
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  int is_create = strcmp(mode, "create") == 0 && argc == 7;
  int is_copy = strcmp(mode, "copy") == 0 && argc == 6;
  int is_delete = strcmp(mode, "delete") == 0 && argc == 5;
  int writers = argc > 4 ? atoi(argv[argc - 2]) : 0;
  if (!(is_create || is_copy || is_delete) || writers < 1 || writers > MAX_WRITERS) {
    fprintf(stderr, "usage: small-files create DIR COUNT BYTES WRITERS LIMIT_MS\n"
                    "       small-files copy DIR FROM_DIR WRITERS LIMIT_MS\n"
                    "       small-files delete DIR WRITERS LIMIT_MS\n");
    return 2;
  }
  long limit_ms = atol(argv[argc - 1]);
  alarm((unsigned)(limit_ms / 1000 + GRACE_S));
  struct shared *shared =
      mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) die("mmap");
  long start_us = now_us();
  if (is_create) {
    make_names(atol(argv[3]));
    file_bytes = (size_t)atol(argv[4]) < MAX_BYTES ? (size_t)atol(argv[4]) : MAX_BYTES;
    memset(buffer, 'x', file_bytes);
    directory = make_directory(argv[2]);
  } else if (is_copy) {
    list_names(argv[3]);
    source = open_directory(argv[3]);
    directory = make_directory(argv[2]);
  } else {
    list_names(argv[2]);
    directory = open_directory(argv[2]);
  }
  void (*act)(const char *) = is_create ? create_one : is_copy ? copy_one : delete_one;
  for (int number = 0; number < writers; number++) {
    pid_t pid = fork();
    if (pid < 0) die("fork");
    if (pid == 0) work(act, shared, start_us + limit_ms * 1000);
  }
  int failed = 0;
  int status;
  while (wait(&status) > 0) failed |= status != 0;
  if (failed) return 1;
  if (is_delete && shared->done == name_count && rmdir(argv[2]) != 0) die(argv[2]);
  printf("%ld %ld\n", (long)shared->done, now_us() - start_us);
  return 0;
}
