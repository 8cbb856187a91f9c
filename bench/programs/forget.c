/*
 * Has the kernel drop the pages of a file, or of all files below a directory.
 *
 *     forget PATH
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common.h"

enum { MAX_DIRECTORIES = 16 };

static int forget(const char *path, const struct stat *attributes, int type, struct FTW *position) {
  (void)attributes;
  (void)position;
  if (type != FTW_F) return 0;
  int fd = open(path, O_RDONLY);
  /* Dirty pages stay: they are written first. */
  if (fd < 0 || fsync(fd) != 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0) die(path);
  close(fd);
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: forget PATH\n");
    return 2;
  }
  if (nftw(argv[1], forget, MAX_DIRECTORIES, FTW_PHYS) != 0) die(argv[1]);
  return 0;
}
