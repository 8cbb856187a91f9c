// One connection to the kernel: reader threads take requests from /dev/fuse, JavaScript answers them, and I/O threads do
// what JavaScript must not wait for. Mechanism only: what to answer is decided in TypeScript.
#pragma once

#include <node_api.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "buffer.h"
#include "eager_wait.h"
#include "events.h"
#include "gate.h"
#include "hot_table.h"
#include "io_pool.h"
#include "kept_requests.h"
#include "notifications.h"
#include "payloads.h"

struct SessionOptions {
  int fd;
  unsigned readers;
  unsigned ioThreads;
  uint32_t maxWriteBytes;
  uint32_t maxRequests;
  uint64_t maxPayloadBytes;
  uint64_t openHandle;
  // Where notifications are written: the fd, or a socket whose other side passes them on.
  int notifyFd;
  // Where requests are kept for a successor (see KeptRequests); -1: nowhere.
  int keptFd;
};

class Session : public std::enable_shared_from_this<Session> {
 public:
  explicit Session(const SessionOptions& options);

  void start(napi_threadsafe_function function);
  // Begins to stop; kStopped follows when all threads have ended. May be called again.
  void stop();
  // The JavaScript side goes away without waiting.
  void abandon();
  // The kernel sends to a successor what is not answered (FUSE_NOTIFY_RESEND).
  void keepNoMore() { keeps_ = false; }

  // Sends the first `size` bytes of the outbox. `counted`: the request is one of those that the gate counts.
  // Returns 0 or an errno.
  int reply(size_t size, bool counted);
  bool replyFile(uint32_t token, uint64_t unique, int fd, uint64_t offset, uint32_t length);
  // The pieces stay what they are until the job is done.
  bool replyMemory(uint32_t token, uint64_t unique, std::vector<iovec> pieces);
  bool writeFile(uint32_t token, std::shared_ptr<Payload> payload, int fd, uint64_t offset);

  EventChannel events;
  Buffer outbox;
  // Payloads give back to both of these, so both outlive them.
  Gate gate;
  BufferPool pool;
  PayloadTable payloads;
  Notifications notifications;
  HotTable hot;

  struct Counters {
    std::atomic<uint64_t> requests{0};
    std::atomic<uint64_t> replies{0};
    std::atomic<uint64_t> repliesFailed{0};
    std::atomic<uint64_t> malformed{0};
  } counters;

 private:
  void startThreads();
  // One reader at a time waits for requests and answers them; the others sleep until it has something long to do. Were all of
  // them waiting in read(2), the kernel would wake one for the RELEASE of a file and another for the OPEN of the next.
  void readLoop();
  // What an earlier process left unanswered, before anything new.
  void deliverInherited(std::unique_ptr<Buffer>& buffer, std::unique_lock<std::mutex>& turn);
  // Both return the bytes read, or -1 when there is nothing more to read.
  ssize_t readRequest(Buffer& buffer, EagerWait& wait);
  ssize_t readInto(uint8_t* bytes, size_t capacity, EagerWait& wait);
  bool deliver(std::unique_ptr<Buffer>& buffer, size_t size, bool isRepeated, std::unique_lock<std::mutex>& turn);
  bool answerHot(Buffer& buffer, size_t size, const fuse::InHeader& header);
  uint32_t holdPayload(std::unique_ptr<Buffer>& buffer, size_t size);
  int send(const uint8_t* message, size_t size);
  int send(const iovec* pieces, int count);
  void runJob(const Job& job, uint8_t* scratch);
  int sendFile(const Job& job, uint8_t* scratch);
  int sendMemory(const Job& job);
  void end(int error);
  void joinAll();

  const SessionOptions options_;
  IoPool io_;
  std::unique_ptr<KeptRequests> kept_;
  // Of the reader whose turn it is.
  std::vector<KeptRequest> inherited_;
  std::atomic<bool> keeps_{false};
  std::vector<std::thread> readers_;
  std::mutex turn_;
  std::atomic<unsigned> readersRunning_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> ended_{false};
  // No thread of ours runs any more.
  std::atomic<bool> stopped_{false};
};
