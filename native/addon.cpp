// What JavaScript may call. src/kernel/binding.ts is the only caller and states the contract of each function.
#include <errno.h>
#include <node_api.h>
#include <sys/ioctl.h>

#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "fuse_abi.h"
#include "mount.h"
#include "napi_util.h"
#include "session.h"

namespace {

using SessionRef = std::shared_ptr<Session>;

constexpr napi_type_tag kSessionTag = {0x7473667353657373, 0x696f6e48616e646c};

// Far above what anybody needs, and what a thread or a buffer costs is still harmless.
constexpr unsigned kMaxThreads = 64;
constexpr uint32_t kMinWriteBytes = 4096;
constexpr uint32_t kMaxWriteBytes = 16 * 1024 * 1024;
constexpr int64_t kMaxTtlMs = 1'000'000'000;
constexpr uint32_t kMaxRequests = 1'000'000;
constexpr uint32_t kMaxPieces = 256;

// A function whose first argument is the handle of a session.
template <napi_value (*function)(napi_env, Arguments&, Session&)>
napi_value onSession(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const auto* session = arguments.external<SessionRef>(0, kSessionTag);
  if (session == nullptr) return nullptr;
  try {
    return function(env, arguments, **session);
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, error.what());
    return nullptr;
  }
}

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

// start(fd, readers, ioThreads, maxWriteBytes, maxRequests, maxPayloadBytes, onEvents, openHandle, notifyFd, keptFd)
//   → { handle, events: [ArrayBuffer, ArrayBuffer], outbox: ArrayBuffer }
napi_value start(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  SessionOptions options;
  options.fd = arguments.integer<int>(0, 0);
  options.readers = arguments.integer<unsigned>(1, 1, kMaxThreads);
  options.ioThreads = arguments.integer<unsigned>(2, 1, kMaxThreads);
  options.maxWriteBytes = arguments.integer<uint32_t>(3, kMinWriteBytes, kMaxWriteBytes);
  options.maxRequests = arguments.integer<uint32_t>(4, 1, kMaxRequests);
  options.maxPayloadBytes = arguments.integer<uint64_t>(5);
  const napi_value callback = arguments.function(6);
  options.openHandle = arguments.integer<uint64_t>(7);
  options.notifyFd = arguments.integer<int>(8, 0);
  options.keptFd = arguments.integer<int>(9, -1);
  if (!arguments.ok()) return nullptr;
  try {
    auto session = std::make_shared<Session>(options);
    napi_value name, result, handle, events;
    napi_create_string_utf8(env, "tsfs:session", NAPI_AUTO_LENGTH, &name);
    auto* ref = new SessionRef(session);
    napi_threadsafe_function function;
    napi_create_threadsafe_function(env, callback, nullptr, name, 0, 1, ref, onAllReleased, ref, onWake,
                                    &function);
    napi_add_env_cleanup_hook(env, onExit, ref);
    napi_create_external(env, new SessionRef(session), dropRef, nullptr, &handle);
    napi_type_tag_object(env, handle, &kSessionTag);
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
napi_value stop(napi_env, Arguments&, Session& session) {
  session.stop();
  return nullptr;
}

// keepNoMore(handle)
napi_value keepNoMore(napi_env, Arguments&, Session& session) {
  session.keepNoMore();
  return nullptr;
}

// reply(handle, sizeBytes, counted) → errno
napi_value reply(napi_env env, Arguments& arguments, Session& session) {
  const auto size = arguments.integer<size_t>(1);
  const bool counted = arguments.boolean(2);
  if (!arguments.ok()) return nullptr;
  if (size > session.outbox.capacity()) return makeInteger(env, EMSGSIZE);
  return makeInteger(env, session.reply(size, counted));
}

// replyFile(handle, token, uniqueLow, uniqueHigh, fd, offset, lengthBytes) → accepted
napi_value replyFile(napi_env env, Arguments& arguments, Session& session) {
  const auto token = arguments.integer<uint32_t>(1);
  const auto low = arguments.integer<uint32_t>(2);
  const auto high = arguments.integer<uint32_t>(3);
  const auto fd = arguments.integer<int>(4);
  const auto offset = arguments.integer<uint64_t>(5);
  const auto length = arguments.integer<uint32_t>(6);
  if (!arguments.ok()) return nullptr;
  const uint64_t unique = (static_cast<uint64_t>(high) << 32) | low;
  return makeBoolean(env, session.replyFile(token, unique, fd, offset, length));
}

// replyMemory(handle, token, uniqueLow, uniqueHigh, pieces) → accepted
napi_value replyMemory(napi_env env, Arguments& arguments, Session& session) {
  const auto token = arguments.integer<uint32_t>(1);
  const auto low = arguments.integer<uint32_t>(2);
  const auto high = arguments.integer<uint32_t>(3);
  auto pieces = arguments.pieces(4, kMaxPieces);
  if (!arguments.ok()) return nullptr;
  const uint64_t unique = (static_cast<uint64_t>(high) << 32) | low;
  return makeBoolean(env, session.replyMemory(token, unique, std::move(pieces)));
}

// writeFile(handle, token, slot, fd, offset) → accepted
napi_value writeFile(napi_env env, Arguments& arguments, Session& session) {
  const auto token = arguments.integer<uint32_t>(1);
  const auto slot = arguments.integer<uint32_t>(2);
  const auto fd = arguments.integer<int>(3);
  const auto offset = arguments.integer<uint64_t>(4);
  if (!arguments.ok()) return nullptr;
  auto payload = session.payloads.find(slot);
  return makeBoolean(env, payload && session.writeFile(token, std::move(payload), fd, offset));
}

// payload(handle, slot) → Buffer with a copy, or undefined
napi_value payload(napi_env env, Arguments& arguments, Session& session) {
  const auto held = session.payloads.find(arguments.integer<uint32_t>(1));
  if (!arguments.ok() || !held) return nullptr;
  napi_value result = nullptr;
  napi_create_buffer_copy(env, held->size(), held->bytes(), nullptr, &result);
  return result;
}

// releasePayload(handle, slot)
napi_value releasePayload(napi_env, Arguments& arguments, Session& session) {
  session.payloads.remove(arguments.integer<uint32_t>(1));
  return nullptr;
}

// publish(handle, node, ttlMs, fd) → accepted. Takes the attributes from the outbox, behind the room for a header.
napi_value publish(napi_env env, Arguments& arguments, Session& session) {
  const auto node = arguments.integer<uint64_t>(1);
  const auto ttlMs = arguments.integer<int64_t>(2, std::numeric_limits<int64_t>::min(), kMaxTtlMs);
  const auto fd = arguments.integer<int>(3);
  if (!arguments.ok() || ttlMs <= 0) return makeBoolean(env, false);
  fuse::Attributes attributes;
  memcpy(&attributes, session.outbox.data() + sizeof(fuse::OutHeader), sizeof attributes);
  return makeBoolean(env, session.hot.publish(node, attributes, static_cast<uint64_t>(ttlMs) * 1'000'000, fd));
}

// withdraw(handle, node) → opens
napi_value withdraw(napi_env env, Arguments& arguments, Session& session) {
  const auto node = arguments.integer<uint64_t>(1);
  if (!arguments.ok()) return nullptr;
  return makeInteger(env, static_cast<int32_t>(session.hot.withdraw(node)));
}

// limitXattrs(handle, prefixes), with commas between them
napi_value limitXattrs(napi_env, Arguments& arguments, Session& session) {
  std::istringstream list(arguments.text(1));
  std::vector<std::string> prefixes;
  for (std::string prefix; std::getline(list, prefix, ',');) prefixes.push_back(prefix);
  if (arguments.ok()) session.hot.limitXattrs(std::move(prefixes));
  return nullptr;
}

// notify(handle, sizeBytes) → accepted. Takes the first bytes of the outbox.
napi_value notify(napi_env env, Arguments& arguments, Session& session) {
  const auto size = arguments.integer<size_t>(1);
  if (!arguments.ok() || size > session.outbox.capacity()) return makeBoolean(env, false);
  const uint8_t* message = session.outbox.data();
  return makeBoolean(env, session.notifications.submit(std::vector<uint8_t>(message, message + size)));
}

// counters(handle) → object of numbers
napi_value counters(napi_env env, Arguments&, Session& session) {
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
      {"hotXattrs", session.hot.counters.xattrs},
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
  const int fuseFd = arguments.integer<int>(0);
  uint32_t connected = arguments.integer<uint32_t>(1);
  if (!arguments.ok()) return nullptr;
  return makeInteger(env, ioctl(fuseFd, fuse::kIocClone, &connected) < 0 ? errno : 0);
}

// backingOpen(fuseFd, fd) → backing id, or a negative errno
napi_value backingOpen(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const int fuseFd = arguments.integer<int>(0);
  fuse::BackingMap map{arguments.integer<int32_t>(1), 0, 0};
  if (!arguments.ok()) return nullptr;
  const int id = ioctl(fuseFd, fuse::kIocBackingOpen, &map);
  return makeInteger(env, id < 0 ? -errno : id);
}

// backingClose(fuseFd, backingId) → errno
napi_value backingClose(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const int fuseFd = arguments.integer<int>(0);
  uint32_t id = arguments.integer<uint32_t>(1);
  if (!arguments.ok()) return nullptr;
  return makeInteger(env, ioctl(fuseFd, fuse::kIocBackingClose, &id) < 0 ? errno : 0);
}

}  // namespace

NAPI_MODULE_INIT() {
  exportMount(env, exports);
  exportFunction(env, exports, "start", start);
  exportFunction(env, exports, "stop", onSession<stop>);
  exportFunction(env, exports, "keepNoMore", onSession<keepNoMore>);
  exportFunction(env, exports, "reply", onSession<reply>);
  exportFunction(env, exports, "replyFile", onSession<replyFile>);
  exportFunction(env, exports, "replyMemory", onSession<replyMemory>);
  exportFunction(env, exports, "writeFile", onSession<writeFile>);
  exportFunction(env, exports, "payload", onSession<payload>);
  exportFunction(env, exports, "releasePayload", onSession<releasePayload>);
  exportFunction(env, exports, "publish", onSession<publish>);
  exportFunction(env, exports, "withdraw", onSession<withdraw>);
  exportFunction(env, exports, "limitXattrs", onSession<limitXattrs>);
  exportFunction(env, exports, "notify", onSession<notify>);
  exportFunction(env, exports, "counters", onSession<counters>);
  exportFunction(env, exports, "cloneDevice", cloneDevice);
  exportFunction(env, exports, "backingOpen", backingOpen);
  exportFunction(env, exports, "backingClose", backingClose);
  return exports;
}
