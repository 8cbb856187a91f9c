/*
 * Takes memory, touches all of it, and gives it back.
 *
 *     take-memory MIB
 *
 * A virtual machine whose host takes back what is free (free page reporting) gets it again page by page, several seconds for a
 * gigabyte: whoever happens to come first would pay for that. What was just given back stays for a while.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "common.h"

int main(int argc, char **argv) {
  long mib = argc == 2 ? atol(argv[1]) : 0;
  if (mib < 1) {
    fprintf(stderr, "usage: take-memory MIB\n");
    return 2;
  }
  size_t bytes = (size_t)mib * 1024 * 1024;
  if (mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0) == MAP_FAILED) {
    die("mmap");
  }
  return 0;
}
