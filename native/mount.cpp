// The system calls of mounting. Each returns an errno (0: done), or a file descriptor or a negative errno.
#include "mount.h"

#include <errno.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>

#include "napi_util.h"

namespace {

// mount(source, target, type, flags, data) → errno
napi_value mountFileSystem(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const std::string source = arguments.text(0);
  const std::string target = arguments.text(1);
  const std::string type = arguments.text(2);
  const auto flags = arguments.integer<uint32_t>(3);
  const std::string data = arguments.text(4);
  if (!arguments.ok()) return nullptr;
  const bool mounted = mount(source.c_str(), target.c_str(), type.c_str(), flags, data.c_str()) == 0;
  return makeInteger(env, mounted ? 0 : errno);
}

struct UnmountWork {
  std::string target;
  int flags;
  int error = 0;
  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;
};

void runUnmount(napi_env, void* data) {
  auto* unmount = static_cast<UnmountWork*>(data);
  unmount->error = umount2(unmount->target.c_str(), unmount->flags) == 0 ? 0 : errno;
}

void finishUnmount(napi_env env, napi_status, void* data) {
  std::unique_ptr<UnmountWork> unmount(static_cast<UnmountWork*>(data));
  napi_resolve_deferred(env, unmount->deferred, makeInteger(env, unmount->error));
  napi_delete_async_work(env, unmount->work);
}

// unmount(target, flags) → Promise of errno. Off the JavaScript thread: the kernel may first send it dirty pages.
napi_value unmountFileSystem(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  auto unmount = std::make_unique<UnmountWork>();
  unmount->target = arguments.text(0);
  unmount->flags = arguments.integer<int>(1);
  if (!arguments.ok()) return nullptr;
  napi_value promise, name;
  napi_create_promise(env, &unmount->deferred, &promise);
  napi_create_string_utf8(env, "tsfs:unmount", NAPI_AUTO_LENGTH, &name);
  napi_create_async_work(env, nullptr, name, runUnmount, finishUnmount, unmount.get(), &unmount->work);
  napi_queue_async_work(env, unmount->work);
  unmount.release();
  return promise;
}

// socketPair() → [fd, fd], or errno
napi_value makeSocketPair(napi_env env, napi_callback_info) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return makeInteger(env, errno);
  napi_value result;
  napi_create_array_with_length(env, 2, &result);
  napi_set_element(env, result, 0, makeInteger(env, pair[0]));
  napi_set_element(env, result, 1, makeInteger(env, pair[1]));
  return result;
}

// receiveFd(socket) → the descriptor that lies in the socket, or a negative errno. Does not wait.
napi_value receiveFd(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const int socket = arguments.integer<int>(0);
  if (!arguments.ok()) return nullptr;
  char byte;
  iovec vector{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0) return makeInteger(env, -errno);
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int))) {
    return makeInteger(env, -ENOMSG);
  }
  int fd;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return makeInteger(env, fd);
}

}  // namespace

void exportMount(napi_env env, napi_value exports) {
  exportFunction(env, exports, "mount", mountFileSystem);
  exportFunction(env, exports, "unmount", unmountFileSystem);
  exportFunction(env, exports, "socketPair", makeSocketPair);
  exportFunction(env, exports, "receiveFd", receiveFd);
}
