#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "fuse_abi.h"

namespace {

// Room for the headers beside the largest payload; a FUSE read buffer must hold both.
constexpr size_t kHeaderRoom = 4096;
// Payloads below this are copied, so that a 4 KiB write does not hold a whole read buffer.
constexpr size_t kCopyBelow = 128 * 1024;
// To copy so much takes longer than to wake another reader.
constexpr size_t kLongReadBytes = 128 * 1024;
// Requests that are answered at this moment: counted as answered, but not given up by those who answer.
constexpr unsigned kAnswering = 64;
// One event buffer: at least the largest request without payload (a BATCH_FORGET that fills the read buffer).
size_t eventCapacity(const SessionOptions& options) { return options.maxWriteBytes + kHeaderRoom + 256 * 1024; }

// Ends a blocking read(2). Its handler does nothing: to interrupt is all that it is for.
int wakeSignal() { return SIGRTMAX - 3; }

void installWakeSignal() {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  sigaction(wakeSignal(), &action, nullptr);
}

// Threads inherit the mask: our threads take no signals but the one that wakes them.
class OnlyWakeSignal {
 public:
  OnlyWakeSignal() {
    sigset_t mask;
    sigfillset(&mask);
    sigdelset(&mask, wakeSignal());
    pthread_sigmask(SIG_SETMASK, &mask, &before_);
  }
  ~OnlyWakeSignal() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  OnlyWakeSignal(const OnlyWakeSignal&) = delete;
  OnlyWakeSignal& operator=(const OnlyWakeSignal&) = delete;

 private:
  sigset_t before_;
};

int writeAll(int fd, const uint8_t* bytes, size_t size, uint64_t offset) {
  while (size > 0) {
    const ssize_t written = pwrite(fd, bytes, size, static_cast<off_t>(offset));
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    if (written == 0) return EIO;
    bytes += written;
    size -= static_cast<size_t>(written);
    offset += static_cast<uint64_t>(written);
  }
  return 0;
}

// Reads until `size` bytes or the end of the file. Returns the count, or a negative errno.
ssize_t readAll(int fd, uint8_t* bytes, size_t size, uint64_t offset) {
  size_t done = 0;
  while (done < size) {
    const ssize_t got = pread(fd, bytes + done, size - done, static_cast<off_t>(offset + done));
    if (got == 0) break;
    if (got < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    done += static_cast<size_t>(got);
  }
  return static_cast<ssize_t>(done);
}

bool isLong(const fuse::InHeader& header, const uint8_t* message, size_t size) {
  fuse::ReadIn body;
  if (header.opcode != fuse::kRead || size != sizeof header + sizeof body) return false;
  memcpy(&body, message + sizeof header, sizeof body);
  return body.size >= kLongReadBytes;
}

}  // namespace

Session::Session(const SessionOptions& options)
    : events(eventCapacity(options)),
      outbox(options.maxWriteBytes + kHeaderRoom),
      gate(options.maxRequests, options.maxPayloadBytes, options.maxWriteBytes + kHeaderRoom),
      pool(options.maxWriteBytes + kHeaderRoom),
      hot(options.openHandle),
      options_(options),
      io_(options.maxRequests, options.maxWriteBytes + kHeaderRoom) {
  if (options.keptFd < 0) return;
  const uint32_t slots = options.maxRequests + options.readers + options.ioThreads + kAnswering;
  kept_ = std::make_unique<KeptRequests>(options.keptFd, slots, options.maxWriteBytes + kHeaderRoom);
  inherited_ = kept_->inherit(options.fd);
  keeps_ = true;
}

void Session::start(napi_threadsafe_function function) {
  events.attach(function);
  installWakeSignal();
  // read(2) never waits, so that a reader can look again (see EagerWait); poll(2) does.
  fcntl(options_.fd, F_SETFL, fcntl(options_.fd, F_GETFL) | O_NONBLOCK);
  try {
    startThreads();
  } catch (...) {
    // No more threads to be had: those that run must end before the session does.
    stop();
    throw;
  }
}

void Session::startThreads() {
  OnlyWakeSignal mask;
  io_.start(
      options_.ioThreads,
      [](void* self, const Job& job, uint8_t* scratch) { static_cast<Session*>(self)->runJob(job, scratch); }, this);
  notifications.start(options_.notifyFd);
  for (unsigned i = 0; i < options_.readers; i += 1) {
    readers_.emplace_back([this] {
      readLoop();
      readersRunning_ -= 1;
    });
    // Only now, as there may be no thread to be had. A reader that has left already makes it 0 again.
    readersRunning_ += 1;
  }
}

void Session::stop() {
  if (stopping_.exchange(true)) return;
  gate.stop();
  io_.stop();
  notifications.stop();
  OnlyWakeSignal mask;
  std::thread([self = shared_from_this()] { self->joinAll(); }).detach();
}

void Session::abandon() {
  events.close();
  stop();
}

void Session::joinAll() {
  // A signal that arrives just before read(2) is lost, so it is repeated until every reader has left.
  while (readersRunning_ > 0) {
    for (auto& reader : readers_) pthread_kill(reader.native_handle(), wakeSignal());
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  for (auto& reader : readers_) reader.join();
  io_.join();
  notifications.join();
  payloads.clear();
  stopped_ = true;
  events.push(EventKind::kStopped, 0, 0, nullptr, 0);
  events.release();
}

void Session::readLoop() {
  auto buffer = pool.take();
  EagerWait wait;
  std::unique_lock turn(turn_);
  deliverInherited(buffer, turn);
  while (gate.enter([&] { wait.noteLongSleep(); })) {
    const ssize_t size = readRequest(*buffer, wait);
    if (size < 0) {
      gate.settle(false, 0);
      return;
    }
    counters.requests += 1;
    wait.noteAnswered(deliver(buffer, static_cast<size_t>(size), false, turn));
    if (turn.owns_lock()) continue;
    wait.noteLongSleep();
    turn.lock();
  }
}

void Session::deliverInherited(std::unique_ptr<Buffer>& buffer, std::unique_lock<std::mutex>& turn) {
  while (!inherited_.empty() && gate.enter([] {})) {
    const KeptRequest request = inherited_.back();
    inherited_.pop_back();
    // An earlier version may have read longer ones: such a request would be cut, and is refused as malformed.
    const size_t size = std::min<size_t>(request.size, buffer->capacity());
    memcpy(buffer->data(), kept_->bytes(request.slot), size);
    counters.requests += 1;
    deliver(buffer, size, true, turn);
    if (!turn.owns_lock()) turn.lock();
  }
}

// Into a slot rather than a buffer where requests are kept: the kernel hands a request out once, and whoever dies then must have kept it. Copied, as
// whoever answers writes into the buffer.
ssize_t Session::readRequest(Buffer& buffer, EagerWait& wait) {
  const auto slot = keeps_ ? kept_->take() : std::nullopt;
  if (!slot) return readInto(buffer.data(), buffer.capacity(), wait);
  uint8_t* bytes = kept_->bytes(*slot);
  const ssize_t size = readInto(bytes, std::min(buffer.capacity(), kept_->slotBytes()), wait);
  if (size > 0) memcpy(buffer.data(), bytes, static_cast<size_t>(size));
  kept_->hold(*slot, size);
  return size;
}

ssize_t Session::readInto(uint8_t* bytes, size_t capacity, EagerWait& wait) {
  wait.begin();
  while (!stopping_) {
    const ssize_t size = read(options_.fd, bytes, capacity);
    if (size > 0) {
      wait.end();
      return size;
    }
    // End of file: not from /dev/fuse, but from a socket that stands in for it.
    const int error = size == 0 ? ENODEV : errno;
    // ENOENT: the request was aborted while we read it.
    if (error == EINTR || error == ENOENT) continue;
    if (error == EAGAIN) {
      if (wait.looksAgain()) continue;
      pollfd readable{options_.fd, POLLIN, 0};
      if (poll(&readable, 1, wait.sleepMs()) == 0) wait.noteLongSleep();
      continue;
    }
    end(error == ENODEV ? 0 : error);
    return -1;
  }
  return -1;
}

void Session::end(int error) {
  if (!ended_.exchange(true)) events.push(EventKind::kEnded, 0, error, nullptr, 0);
}

// Every request passes here once, on the thread that read it. True: it was answered at once.
bool Session::deliver(std::unique_ptr<Buffer>& buffer, size_t size, bool isRepeated,
                      std::unique_lock<std::mutex>& turn) {
  fuse::InHeader header;
  if (size < sizeof header) {
    counters.malformed += 1;
    gate.settle(false, 0);
    return false;
  }
  memcpy(&header, buffer->data(), sizeof header);
  if (header.len != size) {
    counters.malformed += 1;
    gate.settle(false, 0);
    const fuse::OutHeader refusal{sizeof refusal, -EINVAL, header.unique};
    if (fuse::needsReply(header.opcode)) send(reinterpret_cast<const uint8_t*>(&refusal), sizeof refusal);
    return false;
  }
  if (isLong(header, buffer->data(), size)) turn.unlock();
  if (answerHot(*buffer, size, header)) return true;
  constexpr size_t kWriteHead = sizeof(fuse::InHeader) + sizeof(fuse::WriteIn);
  if (header.opcode != fuse::kWrite || size <= kWriteHead) {
    gate.settle(fuse::needsReply(header.opcode), 0);
    events.push(EventKind::kRequest, 0, isRepeated, buffer->data(), size);
    return false;
  }
  uint8_t head[kWriteHead];
  memcpy(head, buffer->data(), kWriteHead);
  const uint32_t slot = holdPayload(buffer, size - kWriteHead);
  events.push(EventKind::kRequest, slot, isRepeated, head, kWriteHead);
  return false;
}

bool Session::answerHot(Buffer& buffer, size_t size, const fuse::InHeader& header) {
  const size_t replySize = hot.answer(buffer.data(), size, buffer.capacity());
  if (replySize == 0) return false;
  gate.settle(false, 0);
  if (send(buffer.data(), replySize) != 0 && header.opcode == fuse::kOpen) hot.takeBackOpen(header.nodeid);
  return true;
}

uint32_t Session::holdPayload(std::unique_ptr<Buffer>& buffer, size_t size) {
  const size_t offset = sizeof(fuse::InHeader) + sizeof(fuse::WriteIn);
  std::shared_ptr<Payload> payload;
  if (size < kCopyBelow) {
    payload = std::make_shared<Payload>(buffer->data() + offset, size, gate);
  } else {
    payload = std::make_shared<Payload>(std::move(buffer), offset, size, pool, gate);
    buffer = pool.take();
  }
  gate.settle(true, payload->heldBytes());
  return payloads.add(std::move(payload));
}

int Session::reply(size_t size, bool counted) {
  if (counted) gate.leave(1, 0);
  return send(outbox.data(), size);
}

int Session::send(const uint8_t* message, size_t size) {
  const iovec whole{const_cast<uint8_t*>(message), size};
  return send(&whole, 1);
}

int Session::send(const iovec* pieces, int count) {
  // The descriptor is the caller's again, and may be another file by now.
  if (stopped_) return ENODEV;
  const ssize_t written = writev(options_.fd, pieces, count);
  const int error = written < 0 ? errno : 0;
  if (keeps_) {
    fuse::OutHeader header;
    memcpy(&header, pieces[0].iov_base, sizeof header);
    kept_->release(header.unique);
  }
  if (error == 0) {
    counters.replies += 1;
  } else {
    counters.repliesFailed += 1;
  }
  return error;
}

bool Session::replyFile(uint32_t token, uint64_t unique, int fd, uint64_t offset, uint32_t length) {
  // What a thread's scratch memory holds behind the header of the reply.
  if (length > options_.maxWriteBytes + kHeaderRoom - sizeof(fuse::OutHeader)) return false;
  return io_.submit(Job{token, fd, offset, unique, length, nullptr, {}});
}

bool Session::replyMemory(uint32_t token, uint64_t unique, std::vector<iovec> pieces) {
  pieces.insert(pieces.begin(), iovec{});
  return io_.submit(Job{token, -1, 0, unique, 0, nullptr, std::move(pieces)});
}

bool Session::writeFile(uint32_t token, std::shared_ptr<Payload> payload, int fd, uint64_t offset) {
  return io_.submit(Job{token, fd, offset, 0, 0, std::move(payload), {}});
}

void Session::runJob(const Job& job, uint8_t* scratch) {
  const int error = job.payload           ? writeAll(job.fd, job.payload->bytes(), job.payload->size(), job.offset)
                    : job.memory.empty() ? sendFile(job, scratch)
                                         : sendMemory(job);
  events.push(EventKind::kJobDone, job.token, error, nullptr, 0);
}

// An errno means that the file could not be read and the request is not answered yet.
int Session::sendFile(const Job& job, uint8_t* scratch) {
  const ssize_t got = readAll(job.fd, scratch + sizeof(fuse::OutHeader), job.length, job.offset);
  if (got < 0) return static_cast<int>(-got);
  const size_t size = sizeof(fuse::OutHeader) + static_cast<size_t>(got);
  const fuse::OutHeader header{static_cast<uint32_t>(size), 0, job.unique};
  memcpy(scratch, &header, sizeof header);
  gate.leave(1, 0);
  send(scratch, size);
  return 0;
}

int Session::sendMemory(const Job& job) {
  size_t size = sizeof(fuse::OutHeader);
  for (const iovec& piece : job.memory) size += piece.iov_len;
  fuse::OutHeader header{static_cast<uint32_t>(size), 0, job.unique};
  std::vector<iovec> message = job.memory;
  message.front() = iovec{&header, sizeof header};
  gate.leave(1, 0);
  send(message.data(), static_cast<int>(message.size()));
  return 0;
}
