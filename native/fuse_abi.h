// The little of the FUSE wire protocol that the reader loop itself must know; everything else is decoded in TypeScript.
// Our own copy: the system's <linux/fuse.h> may be older than the kernel that runs.
#pragma once

#include <sys/ioctl.h>

#include <cstdint>

namespace fuse {

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the TypeScript half reads the wire as little-endian"
#endif

struct InHeader {
  uint32_t len;
  uint32_t opcode;
  uint64_t unique;
  uint64_t nodeid;
  uint32_t uid;
  uint32_t gid;
  uint32_t pid;
  uint16_t totalExtlen;
  uint16_t padding;
};
static_assert(sizeof(InHeader) == 40);

struct OutHeader {
  uint32_t len;
  int32_t error;
  uint64_t unique;
};
static_assert(sizeof(OutHeader) == 16);

struct WriteIn {
  uint64_t fh;
  uint64_t offset;
  uint32_t size;
  uint32_t writeFlags;
  uint64_t lockOwner;
  uint32_t flags;
  uint32_t padding;
};
static_assert(sizeof(WriteIn) == 40);

struct Attributes {
  uint64_t ino;
  uint64_t size;
  uint8_t rest[72];
};
static_assert(sizeof(Attributes) == 88);

struct AttributesOut {
  uint64_t validSec;
  uint32_t validNsec;
  uint32_t padding;
  Attributes attributes;
};
static_assert(sizeof(AttributesOut) == 104);

struct OpenIn {
  uint32_t flags;
  uint32_t openFlags;
};
static_assert(sizeof(OpenIn) == 8);

struct OpenOut {
  uint64_t fh;
  uint32_t openFlags;
  int32_t backingId;
};
static_assert(sizeof(OpenOut) == 16);

constexpr uint32_t kOpenKeepCache = 1 << 1;
constexpr uint32_t kOpenNoFlush = 1 << 5;

struct ReleaseIn {
  uint64_t fh;
  uint32_t flags;
  uint32_t releaseFlags;
  uint64_t lockOwner;
};
static_assert(sizeof(ReleaseIn) == 24);

struct ReadIn {
  uint64_t fh;
  uint64_t offset;
  uint32_t size;
  uint32_t readFlags;
  uint64_t lockOwner;
  uint32_t flags;
  uint32_t padding;
};
static_assert(sizeof(ReadIn) == 40);

// The name follows, with a 0 at its end.
struct GetxattrIn {
  uint32_t size;
  uint32_t padding;
};
static_assert(sizeof(GetxattrIn) == 8);

enum Opcode : uint32_t {
  kForget = 2,
  kGetattr = 3,
  kOpen = 14,
  kRead = 15,
  kWrite = 16,
  kRelease = 18,
  kGetxattr = 22,
  kInterrupt = 36,
  kNotifyReply = 41,
  kBatchForget = 42,
};

// Whether the kernel waits for an answer. (An INTERRUPT that came too early may be answered all the same.)
inline bool needsReply(uint32_t opcode) {
  return opcode != kForget && opcode != kBatchForget && opcode != kInterrupt && opcode != kNotifyReply;
}

struct BackingMap {
  int32_t fd;
  uint32_t flags;
  uint64_t padding;
};

constexpr unsigned long kIocClone = _IOR(229, 0, uint32_t);
constexpr unsigned long kIocBackingOpen = _IOW(229, 1, BackingMap);
constexpr unsigned long kIocBackingClose = _IOW(229, 2, uint32_t);

}  // namespace fuse
