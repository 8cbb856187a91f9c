// Requests that were read and are not answered, in memory that outlives this process: the guardian holds it and gives it to the next worker, which
// executes them again. Only for kernels without FUSE_NOTIFY_RESEND (before Linux 6.9), where their callers would wait forever.
//
// read(2) puts each request into a slot itself: it is never taken and not kept. What is in a slot does not say whether it was answered, as no order
// of answering and forgetting is safe from a crash between them. The kernel knows: a successor asks it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

struct KeptRequest {
  uint32_t slot;
  uint32_t size;
  uint64_t unique;
};

class KeptRequests {
 public:
  // fd: a memfd, empty or as an earlier process left it, with its number and size of slots. Throws std::runtime_error. The fd stays the caller's.
  KeptRequests(int fd, uint32_t slots, size_t slotBytes);
  ~KeptRequests();
  KeptRequests(const KeptRequests&) = delete;
  KeptRequests& operator=(const KeptRequests&) = delete;

  // To be called once, before `take`: what an earlier process left and the kernel of this device still waits for, held, the oldest last.
  std::vector<KeptRequest> inherit(int device);

  // A slot to read the next request into, until `hold`. None: more requests are unanswered than an earlier version expected.
  std::optional<uint32_t> take();
  uint8_t* bytes(uint32_t slot) const { return memory_ + kHeadBytes + slot * slotBytes_; }
  size_t slotBytes() const { return slotBytes_; }
  // `size`: what read(2) returned. A request that needs a reply is kept until `release`; the slot of anything else is free again.
  void hold(uint32_t slot, long size);
  // It was answered. Requests that are not held may be named.
  void release(uint64_t unique);

 private:
  static constexpr size_t kHeadBytes = 4096;
  size_t memoryBytes() const { return kHeadBytes + slots_ * slotBytes_; }
  void trim(uint32_t slot);

  const int fd_;
  uint32_t slots_;
  size_t slotBytes_;
  uint8_t* memory_ = nullptr;
  std::mutex mutex_;
  std::vector<uint32_t> free_;
  std::unordered_map<uint64_t, uint32_t> held_;
};
