/*
 * One large file from its beginning to its end.
 *
 *     sequential read FILE           prints microseconds to the first byte, microseconds in all, bytes
 *     sequential write FILE BYTES    prints microseconds of open and all writes, microseconds of close
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { BUFFER_BYTES = 1024 * 1024, LIMIT_S = 600 };

static char buffer[BUFFER_BYTES];

static void read_file(const char *path) {
  long start_us = now_us();
  int fd = open(path, O_RDONLY);
  if (fd < 0) die(path);
  char first;
  if (pread(fd, &first, 1, 0) != 1) die(path);
  long first_us = now_us();
  long long total = 0;
  ssize_t count;
  while ((count = read(fd, buffer, sizeof buffer)) > 0) total += count;
  if (count < 0) die(path);
  close(fd);
  printf("%ld %ld %lld\n", first_us - start_us, now_us() - start_us, total);
}

/* Bytes that neither compress nor repeat within a buffer. */
static void fill_buffer(void) {
  unsigned long state = 88172645463325252UL;
  for (size_t at = 0; at < sizeof buffer; at += sizeof state) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    memcpy(buffer + at, &state, sizeof state);
  }
}

static void write_file(const char *path, long long size) {
  fill_buffer();
  long start_us = now_us();
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (fd < 0) die(path);
  for (long long done = 0; done < size;) {
    size_t wanted = size - done < BUFFER_BYTES ? (size_t)(size - done) : BUFFER_BYTES;
    ssize_t count = write(fd, buffer, wanted);
    if (count <= 0) die(path);
    done += count;
  }
  long written_us = now_us();
  if (close(fd) != 0) die(path);
  printf("%ld %ld\n", written_us - start_us, now_us() - written_us);
}

int main(int argc, char **argv) {
  alarm(LIMIT_S);
  if (argc == 3 && strcmp(argv[1], "read") == 0) {
    read_file(argv[2]);
  } else if (argc == 4 && strcmp(argv[1], "write") == 0) {
    write_file(argv[2], atoll(argv[3]));
  } else {
    fprintf(stderr, "usage: sequential read FILE | write FILE BYTES\n");
    return 2;
  }
  return 0;
}
