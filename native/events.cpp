#include "events.h"

#include <cstring>

void EventChannel::push(EventKind kind, uint32_t token, int32_t result, const void* body, size_t size) {
  const size_t needed = sizeof(EventHeader) + ((size + 7) & ~size_t{7});
  std::unique_lock lock(mutex_);
  drained_.wait(lock, [&] { return closed_ || used_ + needed <= buffers_[0].capacity(); });
  if (closed_) return;
  const EventHeader header{static_cast<uint32_t>(size), kind, token, result};
  uint8_t* at = buffers_[filling_].data() + used_;
  memcpy(at, &header, sizeof header);
  if (size > 0) memcpy(at + sizeof header, body, size);
  used_ += needed;
  if (scheduled_) return;
  scheduled_ = true;
  napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
}

void EventChannel::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  drained_.notify_all();
}

void EventChannel::release() {
  std::lock_guard lock(mutex_);
  if (closed_) return;
  closed_ = true;
  napi_release_threadsafe_function(function_, napi_tsfn_release);
}

void EventChannel::dispatch(napi_env env, napi_value callback) {
  int index;
  size_t length;
  {
    std::lock_guard lock(mutex_);
    index = filling_;
    length = used_;
    filling_ = 1 - filling_;
    used_ = 0;
    scheduled_ = false;
  }
  drained_.notify_all();
  if (length == 0) return;
  napi_value undefined, arguments[2];
  napi_get_undefined(env, &undefined);
  napi_create_int32(env, index, &arguments[0]);
  napi_create_uint32(env, static_cast<uint32_t>(length), &arguments[1]);
  napi_call_function(env, undefined, callback, 2, arguments, nullptr);
}
