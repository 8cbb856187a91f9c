#include "io_pool.h"

#include <utility>

void IoPool::start(unsigned threads, Run run, void* context) {
  for (unsigned i = 0; i < threads; i += 1) threads_.emplace_back([this, run, context] { loop(run, context); });
}

bool IoPool::submit(Job job) {
  std::lock_guard lock(mutex_);
  if (stopped_ || jobs_.size() >= maxJobs_) return false;
  jobs_.push_back(std::move(job));
  wake_.notify_one();
  return true;
}

void IoPool::stop() {
  std::lock_guard lock(mutex_);
  stopped_ = true;
  wake_.notify_all();
}

void IoPool::join() {
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

void IoPool::loop(Run run, void* context) {
  Buffer scratch(scratchBytes_);
  for (;;) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return stopped_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    run(context, job, scratch.data());
  }
}
