#include "hot_table.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

namespace {

uint64_t nowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

template <typename T>
T bodyOf(const uint8_t* message) {
  T body;
  memcpy(&body, message + sizeof(fuse::InHeader), sizeof body);
  return body;
}

template <typename T>
size_t replyWith(uint8_t* message, uint64_t unique, const T& body) {
  const fuse::OutHeader header{sizeof header + sizeof body, 0, unique};
  memcpy(message, &header, sizeof header);
  memcpy(message + sizeof header, &body, sizeof body);
  return header.len;
}

// `error` is 0 or a negative errno.
size_t replyStatus(uint8_t* message, uint64_t unique, int32_t error) {
  const fuse::OutHeader header{sizeof header, error, unique};
  memcpy(message, &header, sizeof header);
  return sizeof header;
}

// For reading and nothing else. O_TRUNC empties a file without write access.
bool onlyReads(uint32_t openFlags) { return (openFlags & (O_ACCMODE | O_TRUNC)) == O_RDONLY; }

}  // namespace

File::~File() { close(fd_); }

bool HotTable::publish(uint64_t node, const fuse::Attributes& attributes, uint64_t ttlNs, int fd) {
  std::shared_ptr<File> before;
  std::lock_guard lock(mutex_);
  auto found = entries_.find(node);
  if (found == entries_.end()) {
    if (entries_.size() >= kMaxNodes) return false;
    found = entries_.emplace(node, Entry{}).first;
  }
  Entry& entry = found->second;
  entry.attributes = attributes;
  entry.untilNs = nowNs() + ttlNs;
  if (fd < 0 || (!entry.file && files_ >= kMaxFiles)) return true;
  const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (own < 0) return true;
  if (!entry.file) files_ += 1;
  before = std::exchange(entry.file, std::make_shared<File>(own));
  return true;
}

uint32_t HotTable::withdraw(uint64_t node) {
  std::shared_ptr<File> file;
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(node);
  if (found == entries_.end()) return 0;
  const uint32_t opens = found->second.opens;
  file = std::move(found->second.file);
  if (file) files_ -= 1;
  entries_.erase(found);
  return opens;
}

void HotTable::limitXattrs(std::vector<std::string> prefixes) {
  std::lock_guard lock(mutex_);
  xattrPrefixes_ = std::move(prefixes);
}

size_t HotTable::answer(uint8_t* message, size_t size, size_t capacity) {
  fuse::InHeader header;
  memcpy(&header, message, sizeof header);
  const size_t body = size - sizeof header;
  switch (header.opcode) {
    case fuse::kOpen:
      return body == sizeof(fuse::OpenIn) ? open(message, header) : 0;
    case fuse::kRelease:
      return body == sizeof(fuse::ReleaseIn) ? release(message, header) : 0;
    case fuse::kGetattr:
      return attributes(message, header);
    case fuse::kRead:
      return body == sizeof(fuse::ReadIn) ? read(message, header, capacity) : 0;
    case fuse::kGetxattr:
      return body > sizeof(fuse::GetxattrIn) ? xattr(message, header, size) : 0;
    default:
      return 0;
  }
}

void HotTable::takeBackOpen(uint64_t node) {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(node);
  if (found != entries_.end() && found->second.opens > 0) found->second.opens -= 1;
}

uint64_t HotTable::nodes() {
  std::lock_guard lock(mutex_);
  return entries_.size();
}

uint64_t HotTable::files() {
  std::lock_guard lock(mutex_);
  return files_;
}

HotTable::Entry* HotTable::believed(uint64_t node) {
  const auto found = entries_.find(node);
  return found == entries_.end() || found->second.untilNs <= nowNs() ? nullptr : &found->second;
}

size_t HotTable::open(uint8_t* message, const fuse::InHeader& header) {
  if (!onlyReads(bodyOf<fuse::OpenIn>(message).flags)) return 0;
  {
    std::lock_guard lock(mutex_);
    Entry* entry = believed(header.nodeid);
    if (entry == nullptr) return 0;
    entry->opens += 1;
  }
  counters.opens += 1;
  return replyWith(message, header.unique, fuse::OpenOut{openHandle_, fuse::kOpenKeepCache | fuse::kOpenNoFlush, 0});
}

// JavaScript gives the same handle to opens like ours. Whose open this ends does not matter: the sum is what counts.
size_t HotTable::release(uint8_t* message, const fuse::InHeader& header) {
  const auto body = bodyOf<fuse::ReleaseIn>(message);
  if (body.fh != openHandle_) return 0;
  {
    std::lock_guard lock(mutex_);
    const auto found = entries_.find(header.nodeid);
    if (found == entries_.end() || found->second.opens == 0) return 0;
    found->second.opens -= 1;
  }
  counters.releases += 1;
  return replyStatus(message, header.unique, 0);
}

size_t HotTable::attributes(uint8_t* message, const fuse::InHeader& header) {
  fuse::AttributesOut out{};
  {
    std::lock_guard lock(mutex_);
    const Entry* entry = believed(header.nodeid);
    if (entry == nullptr) return 0;
    const uint64_t leftNs = entry->untilNs - nowNs();
    out.validSec = leftNs / 1'000'000'000;
    out.validNsec = static_cast<uint32_t>(leftNs % 1'000'000'000);
    out.attributes = entry->attributes;
  }
  counters.attributes += 1;
  return replyWith(message, header.unique, out);
}

size_t HotTable::read(uint8_t* message, const fuse::InHeader& header, size_t capacity) {
  const auto body = bodyOf<fuse::ReadIn>(message);
  std::shared_ptr<File> file;
  uint64_t size = 0;
  {
    std::lock_guard lock(mutex_);
    const Entry* entry = believed(header.nodeid);
    if (entry == nullptr || !entry->file) return 0;
    file = entry->file;
    size = entry->attributes.size;
  }
  const uint64_t left = body.offset < size ? size - body.offset : 0;
  const size_t wanted = std::min<uint64_t>(body.size, left);
  if (wanted + sizeof(fuse::OutHeader) > capacity) return 0;
  // RWF_NOWAIT: what is not in memory is not waited for here. The first bytes of the request are overwritten, which are
  // put back when it did not work out.
  const iovec target{message + sizeof(fuse::OutHeader), wanted};
  const ssize_t got = wanted == 0 ? 0 : preadv2(file->fd(), &target, 1, static_cast<off_t>(body.offset), RWF_NOWAIT);
  if (got != static_cast<ssize_t>(wanted)) {
    memcpy(message, &header, sizeof header);
    memcpy(message + sizeof header, &body, sizeof body);
    return 0;
  }
  counters.reads += 1;
  const fuse::OutHeader reply{static_cast<uint32_t>(sizeof reply + wanted), 0, header.unique};
  memcpy(message, &reply, sizeof reply);
  return reply.len;
}

size_t HotTable::xattr(uint8_t* message, const fuse::InHeader& header, size_t size) {
  const size_t start = sizeof header + sizeof(fuse::GetxattrIn);
  const std::string_view name(reinterpret_cast<const char*>(message + start), size - start - 1);
  // Whatever is malformed JavaScript refuses.
  if (message[size - 1] != 0 || name.empty() || name.find('\0') != name.npos) return 0;
  {
    std::lock_guard lock(mutex_);
    const auto begins = [&](const std::string& prefix) { return name.substr(0, prefix.size()) == prefix; };
    if (xattrPrefixes_.empty() || std::any_of(xattrPrefixes_.begin(), xattrPrefixes_.end(), begins)) return 0;
  }
  counters.xattrs += 1;
  return replyStatus(message, header.unique, -ENODATA);
}
