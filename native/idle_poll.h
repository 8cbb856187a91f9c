// Idle CPUs that look for work instead of halting, for as long as this is asked for.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <thread>

// To leave the halt of a virtual CPU takes two exits to the host, and a client waits for that once for each OPEN. A request for a latency of 0
// (Documentation/power/pm_qos_interface.rst) has idle CPUs poll; the kernel forgets it with the descriptor, whatever ends the process.
class IdlePoll {
 public:
  IdlePoll() = default;
  ~IdlePoll() { end(); }
  IdlePoll(const IdlePoll&) = delete;
  IdlePoll& operator=(const IdlePoll&) = delete;

  // Does nothing where it would keep many CPUs busy, and for who may not ask (the device is root's).
  void begin() {
    if (fd_ >= 0 || !isSmall_) return;
    fd_ = open("/dev/cpu_dma_latency", O_WRONLY | O_CLOEXEC);
    const int32_t latencyUs = 0;
    if (fd_ >= 0 && write(fd_, &latencyUs, sizeof latencyUs) != sizeof latencyUs) end();
  }

  bool isOn() const { return fd_ >= 0; }

  void end() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

 private:
  // All idle CPUs poll, and one is all that it is for.
  static constexpr unsigned kMaxCpus = 4;

  const bool isSmall_ = std::thread::hardware_concurrency() <= kMaxCpus;
  int fd_ = -1;
};
