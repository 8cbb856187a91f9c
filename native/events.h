// The one way from native threads to JavaScript: records collect in one of two buffers while JavaScript reads the other,
// and one wake-up of a thread-safe function hands over whatever has collected.
#pragma once

#include <node_api.h>

#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "buffer.h"

enum class EventKind : uint32_t {
  kRequest = 0,  // token: payload slot or 0; result: 1 when an earlier process had it, else 0; body: the request without its WRITE payload
  kJobDone = 1,  // token: the job's; result: 0 or an errno
  kEnded = 2,    // result: 0 when unmounted, else the errno that reading /dev/fuse failed with
  kStopped = 3,  // the last event: every thread has ended
};

// Followed by the body, padded to 8 bytes.
struct EventHeader {
  uint32_t size;  // of the body, without padding
  EventKind kind;
  uint32_t token;
  int32_t result;
};
static_assert(sizeof(EventHeader) == 16);

class EventChannel {
 public:
  explicit EventChannel(size_t capacity) : buffers_{Buffer(capacity), Buffer(capacity)} {}

  void attach(napi_threadsafe_function function) { function_ = function; }

  // Waits while both buffers are full. The body must fit into an empty buffer.
  void push(EventKind kind, uint32_t token, int32_t result, const void* body, size_t size);
  // The JavaScript side is gone: what is pushed from now on is dropped.
  void close();
  // After the last push.
  void release();

  // JavaScript thread: hands the collected records to callback(bufferIndex, lengthBytes).
  void dispatch(napi_env env, napi_value callback);

  const Buffer& buffer(int index) const { return buffers_[index]; }

 private:
  Buffer buffers_[2];
  napi_threadsafe_function function_ = nullptr;
  std::mutex mutex_;
  std::condition_variable drained_;
  size_t used_ = 0;
  int filling_ = 0;
  bool scheduled_ = false;
  bool closed_ = false;
};
