// Whether a reader that finds no request looks again at once, or sleeps until it is woken.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "idle_poll.h"
#include "spare_time.h"

// To be woken on another CPU, out of its idle state, takes several times as long as to answer a request from the hot table: in a virtual
// machine a cycle of OPEN and RELEASE took 80 µs with it and 35 µs without. So after a request that was answered at once the reader looks for
// the next one as long as a busy client leaves it waiting. Only while that pays, as nearly every wait ends in time; and only in time that
// nobody else wants: while one client is served so, two CPUs still are idle for a tenth, and nobody waits for them. While that is known to be so, the
// CPU of the client does not halt either.
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
    isEager_ = isEager_ && nowNs() - startNs_ < kPatienceNs;
    return isEager_;
  }

  // How long the reader may sleep then, ms; -1: until it is woken.
  int sleepMs() const { return idlePoll_.isOn() ? kShortSleepMs : -1; }

  // It sleeps for longer, or waits for something else.
  void noteLongSleep() { idlePoll_.end(); }

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
  // A client that others kept from its CPU for a moment is back by then.
  static constexpr int kShortSleepMs = 2;
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
    if (!isTold) return;
    if (isSpare) {
      idlePoll_.begin();
    } else {
      idlePoll_.end();
      restUntilNs_ = now + kRestNs;
    }
  }

  SpareTime spare_;
  // For the client, which waits for its answers on another CPU. Never held by a reader that sleeps for long.
  IdlePoll idlePoll_;
  uint64_t startNs_ = 0;
  uint64_t restUntilNs_ = 0;
  uint64_t checkedNs_ = 0;
  int score_ = 0;
  bool isAfterHot_ = false;
  bool isEager_ = false;
};
