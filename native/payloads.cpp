#include "payloads.h"

#include <cstring>
#include <utility>

std::unique_ptr<Buffer> BufferPool::take() {
  {
    std::lock_guard lock(mutex_);
    if (!spare_.empty()) {
      auto buffer = std::move(spare_.back());
      spare_.pop_back();
      return buffer;
    }
  }
  return std::make_unique<Buffer>(capacity_);
}

void BufferPool::give(std::unique_ptr<Buffer> buffer) {
  std::lock_guard lock(mutex_);
  if (spare_.size() < kMaxSpare) spare_.push_back(std::move(buffer));
}

Payload::Payload(const uint8_t* bytes, size_t size, Gate& gate)
    : copy_(new uint8_t[size]), gate_(gate), bytes_(copy_.get()), size_(size) {
  memcpy(copy_.get(), bytes, size);
}

Payload::Payload(std::unique_ptr<Buffer> buffer, size_t offset, size_t size, BufferPool& pool, Gate& gate)
    : buffer_(std::move(buffer)), pool_(&pool), gate_(gate), bytes_(buffer_->data() + offset), size_(size) {}

Payload::~Payload() {
  const uint64_t held = heldBytes();
  if (buffer_) pool_->give(std::move(buffer_));
  gate_.leave(0, held);
}

uint64_t Payload::heldBytes() const { return buffer_ ? buffer_->capacity() : size_; }

uint32_t PayloadTable::add(std::shared_ptr<Payload> payload) {
  std::lock_guard lock(mutex_);
  uint32_t slot = next_;
  while (slot == 0 || slots_.count(slot) != 0) slot += 1;
  next_ = slot + 1;
  slots_.emplace(slot, std::move(payload));
  return slot;
}

std::shared_ptr<Payload> PayloadTable::find(uint32_t slot) {
  std::lock_guard lock(mutex_);
  auto found = slots_.find(slot);
  return found == slots_.end() ? nullptr : found->second;
}

void PayloadTable::remove(uint32_t slot) {
  std::shared_ptr<Payload> last;  // destroyed after the lock is free
  std::lock_guard lock(mutex_);
  auto found = slots_.find(slot);
  if (found == slots_.end()) return;
  last = std::move(found->second);
  slots_.erase(found);
}

void PayloadTable::clear() {
  std::unordered_map<uint32_t, std::shared_ptr<Payload>> all;
  std::lock_guard lock(mutex_);
  all.swap(slots_);
}
