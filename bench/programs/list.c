/*
 * Reads the names of a directory, or the attributes of every file in it too, in the order of the directory.
 *
 *     list names|stat DIR      prints microseconds and the number of entries
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { LIMIT_S = 600 };

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: list names|stat DIR\n");
    return 2;
  }
  alarm(LIMIT_S);
  int with_attributes = strcmp(argv[1], "stat") == 0;
  long start_us = now_us();
  DIR *stream = opendir(argv[2]);
  if (stream == NULL) die(argv[2]);
  long count = 0;
  struct dirent *entry;
  while ((entry = readdir(stream)) != NULL) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    struct stat attributes;
    if (with_attributes && fstatat(dirfd(stream), entry->d_name, &attributes, AT_SYMLINK_NOFOLLOW) != 0) {
      die(entry->d_name);
    }
    count++;
  }
  closedir(stream);
  printf("%ld %ld\n", now_us() - start_us, count);
  return 0;
}
