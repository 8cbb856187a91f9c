// Whether a reader that finds no request looks again at once, or sleeps until it is woken.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

// Whether there is CPU time that nobody wants, as the system tells. Made on the thread that it is about.
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
    const uint64_t idle = since(idleTicks(), idleBefore_);
    const uint64_t delay = since(delayNs(), delayBefore_);
    return idle > 0 && delay < elapsedNs / kDelayPart;
  }

 private:
  // A thread that looks all the time and waits for its CPU for longer than this part of it keeps others from theirs.
  static constexpr uint64_t kDelayPart = 10;

  static uint64_t since(uint64_t now, uint64_t& before) {
    const uint64_t earlier = std::exchange(before, now);
    return now > earlier ? now - earlier : 0;
  }

  // Of all CPUs together, in units of 10 ms.
  uint64_t idleTicks() const {
    unsigned long long idle = 0;
    unsigned long long io = 0;
    const std::string text = read(system_);
    // user, nice, system, idle, waiting for a disk.
    return sscanf(text.c_str(), "cpu %*u %*u %*u %llu %llu", &idle, &io) == 2 ? idle + io : 0;
  }

  // For which this thread could have run and others did.
  uint64_t delayNs() const {
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
  uint64_t delayBefore_ = 0;
};

// To be woken on another CPU, out of its idle state, takes several times as long as to answer a request from the hot table: in a virtual
// machine a cycle of OPEN and RELEASE took 80 µs with it and 35 µs without. So after a request that was answered at once the reader looks for
// the next one as long as a busy client leaves it waiting. Only while that pays, as nearly every wait ends in time; and only in time that
// nobody else wants: while one client is served so, two CPUs still are idle for a tenth, and nobody waits for them.
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
  static constexpr uint64_t kCheckEveryNs = 250'000'000;
  static constexpr uint64_t kRestNs = 1'000'000'000;

  static uint64_t nowNs() {
    return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
  }

  void check(uint64_t now) {
    if (now < restUntilNs_) return;
    const bool isSpare = spare_.isThere(now - checkedNs_);
    // Time of which the reader rested for a part tells nothing.
    const bool isTold = checkedNs_ >= restUntilNs_;
    checkedNs_ = now;
    if (isTold && !isSpare) restUntilNs_ = now + kRestNs;
  }

  SpareTime spare_;
  uint64_t startNs_ = 0;
  uint64_t restUntilNs_ = 0;
  uint64_t checkedNs_ = 0;
  int score_ = 0;
  bool isAfterHot_ = false;
  bool isEager_ = false;
};
