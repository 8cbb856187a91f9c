// The bytes of WRITE requests, held outside JavaScript until their operation has answered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "buffer.h"
#include "gate.h"

class BufferPool {
 public:
  explicit BufferPool(size_t capacity) : capacity_(capacity) {}
  std::unique_ptr<Buffer> take();
  void give(std::unique_ptr<Buffer> buffer);

 private:
  static constexpr size_t kMaxSpare = 8;
  const size_t capacity_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Buffer>> spare_;
};

// Owns the bytes of one WRITE: small ones in a copy of their size, large ones in the buffer they were read into.
class Payload {
 public:
  Payload(const uint8_t* bytes, size_t size, Gate& gate);
  Payload(std::unique_ptr<Buffer> buffer, size_t offset, size_t size, BufferPool& pool, Gate& gate);
  ~Payload();
  Payload(const Payload&) = delete;
  Payload& operator=(const Payload&) = delete;
  const uint8_t* bytes() const { return bytes_; }
  size_t size() const { return size_; }
  // What it costs at the gate.
  uint64_t heldBytes() const;

 private:
  std::unique_ptr<uint8_t[]> copy_;
  std::unique_ptr<Buffer> buffer_;
  BufferPool* pool_ = nullptr;
  Gate& gate_;
  const uint8_t* bytes_;
  size_t size_;
};

// Slot ids for JavaScript. Id 0 means "no payload".
class PayloadTable {
 public:
  uint32_t add(std::shared_ptr<Payload> payload);
  std::shared_ptr<Payload> find(uint32_t slot);
  void remove(uint32_t slot);
  void clear();

 private:
  std::mutex mutex_;
  std::unordered_map<uint32_t, std::shared_ptr<Payload>> slots_;
  uint32_t next_ = 1;
};
