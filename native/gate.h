// Back-pressure. A reader asks here before it takes a request from the kernel, because a request that was taken but not
// yet handed to JavaScript cannot be interrupted. What may not be taken simply waits in the kernel.
//
// FORGET and INTERRUPT need no reply, so they are never counted. While the limits are reached they wait too; each answer
// lets one reader in, and the kernel hands out interrupts before anything else.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

class Gate {
 public:
  Gate(uint64_t maxRequests, uint64_t maxPayloadBytes, uint64_t largestPayload)
      : maxRequests_(maxRequests), maxPayloadBytes_(maxPayloadBytes), largestPayload_(largestPayload) {}

  // Reserves room for one request with the largest payload; `beforeWait()` is called when there is none yet. False: stopping.
  template <typename BeforeWait>
  bool enter(BeforeWait beforeWait) {
    std::unique_lock lock(mutex_);
    const auto isOpen = [&] {
      return stopped_ || (requests_ < maxRequests_ && payloadBytes_ + largestPayload_ <= maxPayloadBytes_);
    };
    if (!isOpen()) beforeWait();
    changed_.wait(lock, isOpen);
    if (stopped_) return false;
    requests_ += 1;
    payloadBytes_ += largestPayload_;
    return true;
  }

  // Exchanges the reservation for what was really taken.
  void settle(bool countsAsRequest, uint64_t payloadBytes) {
    leave(countsAsRequest ? 0 : 1, largestPayload_ - payloadBytes);
  }

  void leave(uint64_t requests, uint64_t payloadBytes) {
    std::lock_guard lock(mutex_);
    requests_ -= requests;
    payloadBytes_ -= payloadBytes;
    changed_.notify_all();
  }

  void stop() {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    changed_.notify_all();
  }

  uint64_t requests() {
    std::lock_guard lock(mutex_);
    return requests_;
  }

  uint64_t payloadBytes() {
    std::lock_guard lock(mutex_);
    return payloadBytes_;
  }

 private:
  const uint64_t maxRequests_;
  const uint64_t maxPayloadBytes_;
  const uint64_t largestPayload_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t requests_ = 0;
  uint64_t payloadBytes_ = 0;
  bool stopped_ = false;
};
