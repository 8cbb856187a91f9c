// What JavaScript may call. src/kernel/binding.ts is the only caller and states the contract of each function.
#include <errno.h>
#include <node_api.h>
#include <sys/ioctl.h>

#include <cstring>
#include <exception>
#include <memory>
#include <vector>

#include "fuse_abi.h"
#include "mount.h"
#include "napi_util.h"
#include "session.h"

namespace {

using SessionRef = std::shared_ptr<Session>;

Session& sessionOf(Arguments& arguments) { return **arguments.external<SessionRef>(0); }

void dropRef(napi_env, void* data, void*) { delete static_cast<SessionRef*>(data); }
void dropRefHint(napi_env, void*, void* hint) { delete static_cast<SessionRef*>(hint); }

void onWake(napi_env env, napi_value callback, void* context, void*) {
  if (env != nullptr) (*static_cast<SessionRef*>(context))->events.dispatch(env, callback);
}

// Memory of the session as an ArrayBuffer that keeps the session alive.
napi_value share(napi_env env, const SessionRef& session, const Buffer& buffer) {
  napi_value result = nullptr;
  napi_create_external_arraybuffer(env, buffer.data(), buffer.capacity(), dropRefHint, new SessionRef(session), &result);
  return result;
}

void onExit(void* ref) { (*static_cast<SessionRef*>(ref))->abandon(); }

void onAllReleased(napi_env env, void* ref, void*) {
  if (env != nullptr) napi_remove_env_cleanup_hook(env, onExit, ref);
  delete static_cast<SessionRef*>(ref);
}

// start(fd, readers, ioThreads, maxWriteBytes, maxRequests, maxPayloadBytes, onEvents, openHandle)
//   → { handle, events: [ArrayBuffer, ArrayBuffer], outbox: ArrayBuffer }
napi_value start(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  SessionOptions options;
  options.fd = static_cast<int>(arguments.integer(0));
  options.readers = static_cast<unsigned>(arguments.integer(1));
  options.ioThreads = static_cast<unsigned>(arguments.integer(2));
  options.maxWriteBytes = static_cast<uint32_t>(arguments.integer(3));
  options.maxRequests = static_cast<uint32_t>(arguments.integer(4));
  options.maxPayloadBytes = static_cast<uint64_t>(arguments.integer(5));
  options.openHandle = static_cast<uint64_t>(arguments.integer(7));
  if (!arguments.ok()) return nullptr;
  try {
    auto session = std::make_shared<Session>(options);
    napi_value name, result, handle, events;
    napi_create_string_utf8(env, "tsfs:session", NAPI_AUTO_LENGTH, &name);
    auto* ref = new SessionRef(session);
    napi_threadsafe_function function;
    napi_create_threadsafe_function(env, arguments.value(6), nullptr, name, 0, 1, ref, onAllReleased, ref, onWake,
                                    &function);
    napi_add_env_cleanup_hook(env, onExit, ref);
    napi_create_external(env, new SessionRef(session), dropRef, nullptr, &handle);
    napi_create_array_with_length(env, 2, &events);
    napi_set_element(env, events, 0, share(env, session, session->events.buffer(0)));
    napi_set_element(env, events, 1, share(env, session, session->events.buffer(1)));
    napi_create_object(env, &result);
    napi_set_named_property(env, result, "handle", handle);
    napi_set_named_property(env, result, "events", events);
    napi_set_named_property(env, result, "outbox", share(env, session, session->outbox));
    session->start(function);
    return result;
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, error.what());
    return nullptr;
  }
}

// stop(handle)
napi_value stop(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Session& session = sessionOf(arguments);
  session.stop();
  return nullptr;
}

// reply(handle, sizeBytes, counted) → errno
napi_value reply(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Session& session = sessionOf(arguments);
  const auto size = static_cast<size_t>(arguments.integer(1));
  const bool counted = arguments.boolean(2);
  if (!arguments.ok()) return nullptr;
  if (size > session.outbox.capacity()) return makeInteger(env, EMSGSIZE);
  return makeInteger(env, session.reply(size, counted));
}

// replyFile(handle, token, uniqueLow, uniqueHigh, fd, offset, lengthBytes) → accepted
napi_value replyFile(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Session& session = sessionOf(arguments);
  const auto token = static_cast<uint32_t>(arguments.integer(1));
  const auto low = static_cast<uint32_t>(arguments.integer(2));
  const auto high = static_cast<uint32_t>(arguments.integer(3));
  const auto fd = static_cast<int>(arguments.integer(4));
  const auto offset = static_cast<uint64_t>(arguments.integer(5));
  const auto length = arguments.integer(6);
  if (!arguments.ok()) return nullptr;
  const uint64_t unique = (static_cast<uint64_t>(high) << 32) | low;
  return makeBoolean(env, session.replyFile(token, unique, fd, offset, static_cast<uint32_t>(length)));
}

// writeFile(handle, token, slot, fd, offset) → accepted
napi_value writeFile(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Session& session = sessionOf(arguments);
  const auto token = static_cast<uint32_t>(arguments.integer(1));
  const auto slot = static_cast<uint32_t>(arguments.integer(2));
  const auto fd = static_cast<int>(arguments.integer(3));
  const auto offset = static_cast<uint64_t>(arguments.integer(4));
  if (!arguments.ok()) return nullptr;
  auto payload = session.payloads.find(slot);
  return makeBoolean(env, payload && session.writeFile(token, std::move(payload), fd, offset));
}

// payload(handle, slot) → Buffer with a copy, or undefined
napi_value payload(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Session& session = sessionOf(arguments);
  const auto held = session.payloads.find(static_cast<uint32_t>(arguments.integer(1)));
  if (!arguments.ok() || !held) return nullptr;
  napi_value result = nullptr;
  napi_create_buffer_copy(env, held->size(), held->bytes(), nullptr, &result);
  return result;
}

// releasePayload(handle, slot)
napi_value releasePayload(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Session& session = sessionOf(arguments);
  session.payloads.remove(static_cast<uint32_t>(arguments.integer(1)));
  return nullptr;
}

// publish(handle, node, ttlMs, fd) → accepted. Takes the attributes from the outbox, behind the room for a header.
napi_value publish(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Session& session = sessionOf(arguments);
  const auto node = static_cast<uint64_t>(arguments.integer(1));
  const int64_t ttlMs = arguments.integer(2);
  const auto fd = static_cast<int>(arguments.integer(3));
  if (!arguments.ok() || ttlMs <= 0) return makeBoolean(env, false);
  fuse::Attributes attributes;
  memcpy(&attributes, session.outbox.data() + sizeof(fuse::OutHeader), sizeof attributes);
  return makeBoolean(env, session.hot.publish(node, attributes, static_cast<uint64_t>(ttlMs) * 1'000'000, fd));
}

// withdraw(handle, node) → opens
napi_value withdraw(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Session& session = sessionOf(arguments);
  const auto node = static_cast<uint64_t>(arguments.integer(1));
  if (!arguments.ok()) return nullptr;
  return makeInteger(env, static_cast<int32_t>(session.hot.withdraw(node)));
}

// notify(handle, sizeBytes) → accepted. Takes the first bytes of the outbox.
napi_value notify(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Session& session = sessionOf(arguments);
  const auto size = static_cast<size_t>(arguments.integer(1));
  if (!arguments.ok() || size > session.outbox.capacity()) return makeBoolean(env, false);
  const uint8_t* message = session.outbox.data();
  return makeBoolean(env, session.notifications.submit(std::vector<uint8_t>(message, message + size)));
}

// counters(handle) → object of numbers
napi_value counters(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Session& session = sessionOf(arguments);
  const std::pair<const char*, uint64_t> list[] = {
      {"requests", session.counters.requests},
      {"replies", session.counters.replies},
      {"repliesFailed", session.counters.repliesFailed},
      {"malformed", session.counters.malformed},
      {"unanswered", session.gate.requests()},
      {"heldBytes", session.gate.payloadBytes()},
      {"notificationsSent", session.notifications.sent},
      {"notificationsFailed", session.notifications.failed},
      {"hotNodes", session.hot.nodes()},
      {"hotFiles", session.hot.files()},
      {"hotOpens", session.hot.counters.opens},
      {"hotReleases", session.hot.counters.releases},
      {"hotAttributes", session.hot.counters.attributes},
      {"hotReads", session.hot.counters.reads},
  };
  napi_value result;
  napi_create_object(env, &result);
  for (const auto& [name, value] : list) {
    napi_set_named_property(env, result, name, makeNumber(env, static_cast<double>(value)));
  }
  return result;
}

// cloneDevice(fuseFd, connectedFd) → errno
napi_value cloneDevice(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const int fuseFd = static_cast<int>(arguments.integer(0));
  uint32_t connected = static_cast<uint32_t>(arguments.integer(1));
  if (!arguments.ok()) return nullptr;
  return makeInteger(env, ioctl(fuseFd, fuse::kIocClone, &connected) < 0 ? errno : 0);
}

// backingOpen(fuseFd, fd) → backing id, or a negative errno
napi_value backingOpen(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const int fuseFd = static_cast<int>(arguments.integer(0));
  fuse::BackingMap map{static_cast<int32_t>(arguments.integer(1)), 0, 0};
  if (!arguments.ok()) return nullptr;
  const int id = ioctl(fuseFd, fuse::kIocBackingOpen, &map);
  return makeInteger(env, id < 0 ? -errno : id);
}

// backingClose(fuseFd, backingId) → errno
napi_value backingClose(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const int fuseFd = static_cast<int>(arguments.integer(0));
  uint32_t id = static_cast<uint32_t>(arguments.integer(1));
  if (!arguments.ok()) return nullptr;
  return makeInteger(env, ioctl(fuseFd, fuse::kIocBackingClose, &id) < 0 ? errno : 0);
}

}  // namespace

NAPI_MODULE_INIT() {
  exportMount(env, exports);
  exportFunction(env, exports, "start", start);
  exportFunction(env, exports, "stop", stop);
  exportFunction(env, exports, "reply", reply);
  exportFunction(env, exports, "replyFile", replyFile);
  exportFunction(env, exports, "writeFile", writeFile);
  exportFunction(env, exports, "payload", payload);
  exportFunction(env, exports, "releasePayload", releasePayload);
  exportFunction(env, exports, "publish", publish);
  exportFunction(env, exports, "withdraw", withdraw);
  exportFunction(env, exports, "notify", notify);
  exportFunction(env, exports, "counters", counters);
  exportFunction(env, exports, "cloneDevice", cloneDevice);
  exportFunction(env, exports, "backingOpen", backingOpen);
  exportFunction(env, exports, "backingClose", backingClose);
  return exports;
}
