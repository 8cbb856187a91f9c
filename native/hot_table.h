// Files that are published: what the kernel asks about them is answered on the thread that read the request, and
// JavaScript does not hear of it. Mechanism only: TypeScript decides what is published, and withdraws it before it changes.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "fuse_abi.h"

// A descriptor of our own, closed with its last user.
class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

class HotTable {
 public:
  // `openHandle` is what RELEASE will name for the opens that are answered here.
  explicit HotTable(uint64_t openHandle) : openHandle_(openHandle) {}

  // Replaces what is published of the node, but for its count of opens, and its file when `fd` is negative. The fd is
  // duplicated; when there are too many already, the file is published without. False: the table is full.
  bool publish(uint64_t node, const fuse::Attributes& attributes, uint64_t ttlNs, int fd);
  // Returns how many opens were answered here and are not released: their RELEASE is not answered here any more.
  uint32_t withdraw(uint64_t node);

  // Extended attributes have names that begin with one of these: any other is missing from every node, and asked for so often (`ls -l`, the first
  // write to a file) that it is answered here. None: JavaScript answers for all names.
  void limitXattrs(std::vector<std::string> prefixes);

  // Answers the request in `message` in its place. Returns the size of the reply, or 0 when JavaScript has to answer; the
  // message is then as it was. Never waits. `message` has room for a header and the largest READ.
  size_t answer(uint8_t* message, size_t size, size_t capacity);
  // The kernel did not take the reply to an OPEN.
  void takeBackOpen(uint64_t node);

  uint64_t nodes();
  uint64_t files();

  struct Counters {
    std::atomic<uint64_t> opens{0};
    std::atomic<uint64_t> releases{0};
    std::atomic<uint64_t> attributes{0};
    std::atomic<uint64_t> reads{0};
    std::atomic<uint64_t> xattrs{0};
  } counters;

 private:
  static constexpr size_t kMaxNodes = 16384;
  static constexpr size_t kMaxFiles = 512;

  struct Entry {
    fuse::Attributes attributes;
    uint64_t untilNs = 0;
    uint32_t opens = 0;
    std::shared_ptr<File> file;
  };

  Entry* believed(uint64_t node);
  size_t open(uint8_t* message, const fuse::InHeader& header);
  size_t release(uint8_t* message, const fuse::InHeader& header);
  size_t attributes(uint8_t* message, const fuse::InHeader& header);
  size_t read(uint8_t* message, const fuse::InHeader& header, size_t capacity);
  size_t xattr(uint8_t* message, const fuse::InHeader& header, size_t size);

  const uint64_t openHandle_;
  std::mutex mutex_;
  std::unordered_map<uint64_t, Entry> entries_;
  std::vector<std::string> xattrPrefixes_;
  // Closing a file may wait for a disk, so entries give theirs up outside the lock; counted here, inside it.
  size_t files_ = 0;
};
