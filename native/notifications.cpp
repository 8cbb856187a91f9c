#include "notifications.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include <utility>

void Notifications::start(int fuseFd) {
  thread_ = std::thread([this, fuseFd] { loop(fuseFd); });
}

bool Notifications::submit(std::vector<uint8_t> message) {
  std::lock_guard lock(mutex_);
  if (stopped_ || queue_.size() >= kMaxQueued) return false;
  queue_.push_back(std::move(message));
  wake_.notify_one();
  return true;
}

void Notifications::stop() {
  std::lock_guard lock(mutex_);
  stopped_ = true;
  queue_.clear();
  wake_.notify_one();
}

void Notifications::join() {
  if (thread_.joinable()) thread_.join();
}

// A socket that is full (its other side waits inside the kernel) must not keep this process from stopping.
ssize_t Notifications::writeWhole(int fd, const std::vector<uint8_t>& message) {
  for (;;) {
    const ssize_t written = write(fd, message.data(), message.size());
    if (written >= 0 || errno != EAGAIN) return written;
    {
      std::lock_guard lock(mutex_);
      if (stopped_) return -1;
    }
    pollfd writable{fd, POLLOUT, 0};
    poll(&writable, 1, kLookEveryMs);
  }
}

void Notifications::loop(int fuseFd) {
  for (;;) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return stopped_ || !queue_.empty(); });
    if (stopped_) return;
    const std::vector<uint8_t> message = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    const ssize_t written = writeWhole(fuseFd, message);
    if (written >= 0 || errno == ENOENT) {
      sent += 1;
    } else {
      failed += 1;
    }
  }
}
