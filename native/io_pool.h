// Threads for work that JavaScript must not wait for: long replies, from a file or from memory, and payloads into a file.
#pragma once

#include <sys/uio.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "payloads.h"

struct Job {
  uint32_t token;
  int fd;
  uint64_t offset;
  // Reply from a file: the request that is answered, and how much.
  uint64_t unique;
  uint32_t length;
  // Write to a file: what is written. Null for replies.
  std::shared_ptr<Payload> payload;
  // Reply from memory: room for the header, and the bytes. Empty for others.
  std::vector<iovec> memory;
};

class IoPool {
 public:
  // `run` is called on a pool thread, with scratch memory of `scratchBytes` that belongs to that thread.
  using Run = void (*)(void* context, const Job& job, uint8_t* scratch);

  IoPool(size_t maxJobs, size_t scratchBytes) : maxJobs_(maxJobs), scratchBytes_(scratchBytes) {}
  void start(unsigned threads, Run run, void* context);
  // False when `maxJobs` are waiting already.
  bool submit(Job job);
  // Takes no more jobs; those that wait are still done.
  void stop();
  void join();

 private:
  void loop(Run run, void* context);

  const size_t maxJobs_;
  const size_t scratchBytes_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  std::vector<std::thread> threads_;
  bool stopped_ = false;
};
