#include "kept_requests.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "fuse_abi.h"

namespace {

constexpr uint64_t kMagic = 0x31307470656b6674;  // "tfkept01"
constexpr size_t kPageBytes = 4096;
// Slots that keep their memory, so that large writes do not allocate it each time. Slots are used lowest first, as long as few are.
constexpr uint32_t kWarmSlots = 16;

struct Head {
  uint64_t magic;
  uint64_t slots;
  uint64_t slotBytes;
};

// An INTERRUPT's `unique` is that of its request and this bit (FUSE_INT_REQ_BIT); the kernel counts requests in steps of 2.
constexpr uint64_t kInterruptBit = 1;

// Answers an INTERRUPT of the request with "not yet". The kernel looks the request up: ENOENT when it does not wait for it (any more), EINVAL when it
// waits and sent no INTERRUPT, else it sends that again. Nothing more comes of it (fuse_dev_do_write, queue_interrupt).
bool isAwaited(int device, uint64_t unique) {
  const fuse::OutHeader notYet{sizeof notYet, -EAGAIN, unique | kInterruptBit};
  return write(device, &notYet, sizeof notYet) >= 0 || errno == EINVAL;
}

bool isToBeAnswered(const fuse::InHeader& header) {
  return header.unique != 0 && (header.unique & kInterruptBit) == 0 && fuse::needsReply(header.opcode);
}

}  // namespace

KeptRequests::KeptRequests(int fd, uint32_t slots, size_t slotBytes)
    : fd_(fd), slots_(slots), slotBytes_((slotBytes + kPageBytes - 1) & ~(kPageBytes - 1)) {
  Head head{};
  if (pread(fd, &head, sizeof head, 0) == sizeof head && head.magic == kMagic) {
    slots_ = static_cast<uint32_t>(head.slots);
    slotBytes_ = head.slotBytes;
  } else {
    // Sparse: pages that were never touched cost nothing. The head comes last, so that half a beginning is begun again.
    head = Head{kMagic, slots_, slotBytes_};
    if (ftruncate(fd, static_cast<off_t>(memoryBytes())) != 0 || pwrite(fd, &head, sizeof head, 0) != sizeof head) {
      throw std::runtime_error("no memory for requests that are to be kept");
    }
  }
  struct stat status;
  if (fstat(fd, &status) != 0 || static_cast<uint64_t>(status.st_size) < memoryBytes()) {
    throw std::runtime_error("the memory of kept requests is shorter than it says");
  }
  void* memory = mmap(nullptr, memoryBytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("no address space for requests that are to be kept");
  memory_ = static_cast<uint8_t*>(memory);
}

KeptRequests::~KeptRequests() { munmap(memory_, memoryBytes()); }

std::vector<KeptRequest> KeptRequests::inherit(int device) {
  std::vector<KeptRequest> found;
  for (uint32_t slot = slots_; slot-- > 0;) {
    fuse::InHeader header{};
    // Not through the mapping, which would allocate a page for each slot that was never used.
    const auto at = static_cast<off_t>(kHeadBytes + slot * slotBytes_);
    const bool isWhole = pread(fd_, &header, sizeof header, at) == sizeof header;
    const bool isRequest = isWhole && header.len >= sizeof header && header.len <= slotBytes_ && isToBeAnswered(header);
    if (isRequest && isAwaited(device, header.unique)) {
      found.push_back({slot, header.len, header.unique});
      held_.emplace(header.unique, slot);
    } else {
      free_.push_back(slot);
    }
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.unique > b.unique; });
  return found;
}

std::optional<uint32_t> KeptRequests::take() {
  std::lock_guard lock(mutex_);
  if (free_.empty()) return std::nullopt;
  const uint32_t slot = free_.back();
  free_.pop_back();
  return slot;
}

void KeptRequests::hold(uint32_t slot, long size) {
  fuse::InHeader header{};
  if (size >= static_cast<long>(sizeof header)) memcpy(&header, bytes(slot), sizeof header);
  std::lock_guard lock(mutex_);
  if (isToBeAnswered(header)) held_.emplace(header.unique, slot);
  else free_.push_back(slot);
}

void KeptRequests::release(uint64_t unique) {
  std::lock_guard lock(mutex_);
  const auto found = held_.find(unique);
  if (found == held_.end()) return;
  trim(found->second);
  free_.push_back(found->second);
  held_.erase(found);
}

// What is beyond the first page goes back to the system: else each slot would come to hold as much as the largest write.
void KeptRequests::trim(uint32_t slot) {
  fuse::InHeader header;
  memcpy(&header, bytes(slot), sizeof header);
  if (slot >= kWarmSlots && header.len > kPageBytes) {
    madvise(bytes(slot) + kPageBytes, slotBytes_ - kPageBytes, MADV_REMOVE);
  }
}
