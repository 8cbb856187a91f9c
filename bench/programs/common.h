/* What every one of these programs needs. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline void die(const char *what) {
  perror(what);
  exit(1);
}

static inline long now_us(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000L + time.tv_nsec / 1000;
}
