/*
 * Blocks of a file in random order, none twice.
 *
 *     random FILE BLOCK_BYTES COUNT SEED      prints microseconds
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { LIMIT_S = 600 };

int main(int argc, char **argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: random FILE BLOCK_BYTES COUNT SEED\n");
    return 2;
  }
  alarm(LIMIT_S);
  size_t block_bytes = (size_t)atol(argv[2]);
  long count = atol(argv[3]);
  srandom((unsigned)atol(argv[4]));
  int fd = open(argv[1], O_RDONLY);
  struct stat attributes;
  if (fd < 0 || fstat(fd, &attributes) != 0) die(argv[1]);
  long blocks = attributes.st_size / (long)block_bytes;
  long *order = malloc(sizeof(long) * (size_t)blocks);
  char *buffer = malloc(block_bytes);
  if (order == NULL || buffer == NULL || count > blocks) {
    fprintf(stderr, "the file has only %ld blocks\n", blocks);
    return 1;
  }
  for (long i = 0; i < blocks; i++) order[i] = i;
  long start_us = now_us();
  for (long i = 0; i < count; i++) {
    long other = i + random() % (blocks - i);
    long block = order[other];
    order[other] = order[i];
    if (pread(fd, buffer, block_bytes, block * (long)block_bytes) != (ssize_t)block_bytes) die("pread");
  }
  printf("%ld\n", now_us() - start_us);
  return 0;
}
