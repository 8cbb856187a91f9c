// Whether there is CPU time that nobody wants, as the system tells.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

// Made on the thread that it is about.
class SpareTime {
 public:
  SpareTime() : system_(open("/proc/stat", O_RDONLY | O_CLOEXEC)), thread_(open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)) {}
  ~SpareTime() {
    if (system_ >= 0) close(system_);
    if (thread_ >= 0) close(thread_);
  }
  SpareTime(const SpareTime&) = delete;
  SpareTime& operator=(const SpareTime&) = delete;

  // Since the last call, `elapsedNs` ago. False where the system does not tell.
  bool isThere(uint64_t elapsedNs) {
    const Ticks now = ticks();
    const uint64_t idle = since(now.idle, idleBefore_);
    const uint64_t stolenNs = since(now.stolen, stolenBefore_) * kTickNs;
    const uint64_t delayNs = since(delay(), delayBefore_);
    return idle > 0 && delayNs < elapsedNs / kWantedPart && stolenNs < elapsedNs / kWantedPart;
  }

 private:
  // Of all CPUs together.
  struct Ticks {
    unsigned long long idle = 0;
    // What other guests of the host had.
    unsigned long long stolen = 0;
  };
  // USER_HZ, the unit of /proc/stat.
  static constexpr uint64_t kTickNs = 10'000'000;
  // A thread that looks all the time, and waits for its CPU for longer than this part of it, keeps others from theirs.
  static constexpr uint64_t kWantedPart = 5;

  static uint64_t since(uint64_t now, uint64_t& before) {
    const uint64_t earlier = std::exchange(before, now);
    return now > earlier ? now - earlier : 0;
  }

  Ticks ticks() const {
    Ticks ticks;
    unsigned long long waiting = 0;
    // user, nice, system, idle, waiting for a disk, interrupts, soft interrupts, stolen.
    sscanf(read(system_).c_str(), "cpu %*u %*u %*u %llu %llu %*u %*u %llu", &ticks.idle, &waiting, &ticks.stolen);
    ticks.idle += waiting;
    return ticks;
  }

  // For which this thread could have run and others did, ns.
  uint64_t delay() const {
    unsigned long long delay = 0;
    return sscanf(read(thread_).c_str(), "%*u %llu", &delay) == 1 ? delay : 0;
  }

  static std::string read(int fd) {
    char text[256];
    const ssize_t size = fd < 0 ? 0 : pread(fd, text, sizeof text, 0);
    return std::string(text, size < 0 ? 0 : static_cast<size_t>(size));
  }

  const int system_;
  const int thread_;
  uint64_t idleBefore_ = 0;
  uint64_t stolenBefore_ = 0;
  uint64_t delayBefore_ = 0;
};
