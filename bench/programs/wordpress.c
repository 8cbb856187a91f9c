/*
 * What WordPress does in its directory of uploads when an image comes in: the system calls, in their order.
 *
 *     wordpress DIR NAME BYTES      prints microseconds
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { RESIZED = 8, MAX_BYTES = 16 * 1024 * 1024, PATH_BYTES = 4096, LIMIT_S = 120 };

static char buffer[MAX_BYTES];

static void make_directory(const char *path) {
  struct stat attributes;
  if (stat(path, &attributes) == 0) return;
  if (mkdir(path, 0755) != 0 && errno != EEXIST) die(path);
}

/* The month is scanned for a name that is free. */
static void scan_directory(const char *path) {
  DIR *stream = opendir(path);
  if (stream == NULL) die(path);
  while (readdir(stream) != NULL) continue;
  closedir(stream);
}

static void store(const char *path, size_t bytes) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (fd < 0) die(path);
  if (write(fd, buffer, bytes) != (ssize_t)bytes) die(path);
  if (close(fd) != 0) die(path);
}

/* The mode of the parent decides that of the file. */
static void set_mode(const char *path, const char *parent) {
  struct stat attributes;
  if (stat(parent, &attributes) != 0 || chmod(path, attributes.st_mode & 0666) != 0) die(path);
}

static void read_back(const char *path) {
  int fd = open(path, O_RDONLY);
  if (fd < 0) die(path);
  while (read(fd, buffer, sizeof buffer) > 0) continue;
  close(fd);
}

int main(int argc, char **argv) {
  size_t bytes = argc == 4 ? (size_t)atol(argv[3]) : 0;
  if (bytes == 0 || bytes > MAX_BYTES) {
    fprintf(stderr, "usage: wordpress DIR NAME BYTES\n");
    return 2;
  }
  alarm(LIMIT_S);
  char year[PATH_BYTES], month[PATH_BYTES + 8], path[PATH_BYTES + 512];
  snprintf(year, sizeof year, "%s/2024", argv[1]);
  snprintf(month, sizeof month, "%s/05", year);
  memset(buffer, 'x', bytes);
  long start_us = now_us();
  make_directory(year);
  make_directory(month);
  scan_directory(month);
  snprintf(path, sizeof path, "%s/%s.jpg", month, argv[2]);
  store(path, bytes);
  set_mode(path, month);
  read_back(path);
  for (int i = 1; i <= RESIZED; i++) {
    snprintf(path, sizeof path, "%s/%s-%dx%d.jpg", month, argv[2], i * 150, i * 100);
    store(path, bytes / (size_t)(RESIZED + 2 - i));
    set_mode(path, month);
  }
  printf("%ld\n", now_us() - start_us);
  return 0;
}
