/*
 * What a web server does with a file, as often as it can: open, fstat, read to the end, close; or stat alone. The files are DIR/0.jpg and so on, as
 * web servers do not list directories.
 *
 *     hot cycle|stat DIR FILES CLIENTS MILLISECONDS      prints the number of cycles that all clients did in that time
 *
 * Clients are processes, as those of a web server are: threads would share one table of file descriptors.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
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

enum { MAX_FILES = 10000, MAX_CLIENTS = 64, BUFFER_BYTES = 64 * 1024, START_DELAY_MS = 50, GRACE_S = 60 };

/* One cache line for each client. */
struct counter {
  _Alignas(64) volatile long cycles;
};

static char *paths[MAX_FILES];
static int path_count;

static void name_files(const char *directory, int count) {
  for (; path_count < count; path_count++) {
    if (asprintf(&paths[path_count], "%s/%d.jpg", directory, path_count) < 0) die("asprintf");
  }
}

static void cycle(const char *path) {
  static char buffer[BUFFER_BYTES];
  struct stat attributes;
  int fd = open(path, O_RDONLY);
  if (fd < 0 || fstat(fd, &attributes) != 0) die(path);
  off_t total = 0;
  ssize_t count;
  while ((count = read(fd, buffer, sizeof buffer)) > 0) total += count;
  if (count < 0 || total != attributes.st_size) die(path);
  close(fd);
}

static void look(const char *path) {
  struct stat attributes;
  if (lstat(path, &attributes) != 0) die(path);
}

static void client(void (*visit)(const char *), int number, int clients, long start_us, long end_us,
                   struct counter *counter) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  struct timespec start = {start_us / 1000000, start_us % 1000000 * 1000};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &start, NULL);
  int position = (int)((long)path_count * number / clients);
  while (now_us() < end_us) {
    visit(paths[position]);
    position = (position + 1) % path_count;
    counter->cycles += 1;
  }
  _exit(0);
}

int main(int argc, char **argv) {
  int files = argc == 6 ? atoi(argv[3]) : 0;
  int clients = argc == 6 ? atoi(argv[4]) : 0;
  long duration_ms = argc == 6 ? atol(argv[5]) : 0;
  if (files < 1 || files > MAX_FILES || clients < 1 || clients > MAX_CLIENTS || duration_ms < 1) {
    fprintf(stderr, "usage: hot cycle|stat DIR FILES CLIENTS MILLISECONDS\n");
    return 2;
  }
  alarm((unsigned)(duration_ms / 1000 + GRACE_S));
  name_files(argv[2], files);
  void (*visit)(const char *) = strcmp(argv[1], "stat") == 0 ? look : cycle;
  struct counter *counters =
      mmap(NULL, sizeof(struct counter) * clients, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (counters == MAP_FAILED) die("mmap");
  long start_us = now_us() + START_DELAY_MS * 1000L;
  long end_us = start_us + duration_ms * 1000;
  for (int number = 0; number < clients; number++) {
    pid_t pid = fork();
    if (pid < 0) die("fork");
    if (pid == 0) client(visit, number, clients, start_us, end_us, &counters[number]);
  }
  int failed = 0;
  int status;
  while (wait(&status) > 0) failed |= status != 0;
  if (failed) return 1;
  long total = 0;
  for (int number = 0; number < clients; number++) total += counters[number].cycles;
  printf("%ld\n", total);
  return 0;
}
