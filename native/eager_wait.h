// Whether a reader that finds no request looks again at once, or sleeps until it is woken.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>

// Whether the machine has time that nobody wants.
class IdleTime {
 public:
  IdleTime() : fd_(open("/proc/stat", O_RDONLY | O_CLOEXEC)) {}
  ~IdleTime() {
    if (fd_ >= 0) close(fd_);
  }
  IdleTime(const IdleTime&) = delete;
  IdleTime& operator=(const IdleTime&) = delete;

  // Of all CPUs together since the last call, in ticks of 10 ms; 0 where the system does not tell.
  uint64_t ticks() {
    char text[256] = {};
    unsigned long long idle = 0;
    unsigned long long io = 0;
    if (fd_ < 0 || pread(fd_, text, sizeof text - 1, 0) <= 0) return 0;
    // user, nice, system, idle, waiting for a disk.
    if (sscanf(text, "cpu %*u %*u %*u %llu %llu", &idle, &io) != 2) return 0;
    const uint64_t before = total_;
    total_ = idle + io;
    return total_ > before ? total_ - before : 0;
  }

 private:
  const int fd_;
  uint64_t total_ = 0;
};

// To be woken on another CPU, out of its idle state, takes several times as long as to answer a request from the hot table: in a virtual
// machine a cycle of OPEN and RELEASE took 80 µs with it and 35 µs without. So after a request that was answered at once the reader looks for
// the next one as long as a busy client leaves it waiting. Only while that pays, as nearly every wait ends in time; and only in time that
// the CPUs would be idle for.
class EagerWait {
 public:
  void noteAnswered(bool isAtOnce) { isAfterHot_ = isAtOnce; }

  void begin() {
    if (!isAfterHot_) return;
    startNs_ = nowNs();
    isEager_ = score_ >= kEagerScore && startNs_ >= restUntilNs_;
  }

  // Called when no request is there: true to look again.
  bool looksAgain() {
    if (isEager_ && nowNs() - startNs_ >= kPatienceNs) isEager_ = false;
    return isEager_;
  }

  // A request has come.
  void end() {
    if (!isAfterHot_) return;
    const uint64_t now = nowNs();
    // Who slept has the time in it that waking took.
    const bool isSoon = now - startNs_ < (isEager_ ? 1 : 2) * kPatienceNs;
    score_ = isSoon ? std::min(score_ + 1, kMaxScore) : std::max(score_ - kMissCost, 0);
    isEager_ = false;
    if (score_ >= kEagerScore && now - checkedNs_ >= kCheckEveryNs) check(now);
  }

 private:
  static constexpr uint64_t kPatienceNs = 100'000;
  // Four waits in five must end in time.
  static constexpr int kMissCost = 4;
  static constexpr int kEagerScore = 8;
  static constexpr int kMaxScore = 16;
  static constexpr uint64_t kCheckEveryNs = 100'000'000;
  static constexpr uint64_t kIdleTicks = 2;
  static constexpr uint64_t kRestNs = 1'000'000'000;

  static uint64_t nowNs() {
    return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
  }

  void check(uint64_t now) {
    if (idle_.ticks() < kIdleTicks) restUntilNs_ = now + kRestNs;
    checkedNs_ = now;
  }

  IdleTime idle_;
  uint64_t startNs_ = 0;
  uint64_t restUntilNs_ = 0;
  uint64_t checkedNs_ = 0;
  int score_ = 0;
  bool isAfterHot_ = false;
  bool isEager_ = false;
};
