// Unasked messages to the kernel, sent by a thread of their own: FUSE_NOTIFY_INVAL_INODE waits for reads that are in
// flight, FUSE_NOTIFY_INVAL_ENTRY for the parent's lock, and both may need JavaScript to answer something first.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

class Notifications {
 public:
  void start(int fuseFd);
  // False when the queue is full.
  bool submit(std::vector<uint8_t> message);
  void stop();
  void join();

  // ENOENT (the kernel does not know that node or name) is not a failure.
  std::atomic<uint64_t> sent{0};
  std::atomic<uint64_t> failed{0};

 private:
  static constexpr size_t kMaxQueued = 16384;
  static constexpr int kLookEveryMs = 100;
  ssize_t writeWhole(int fd, const std::vector<uint8_t>& message);
  void loop(int fuseFd);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::vector<uint8_t>> queue_;
  std::thread thread_;
  bool stopped_ = false;
};
