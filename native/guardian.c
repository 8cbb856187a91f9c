/*
 * The guardian of one mount: a small process that holds /dev/fuse open, so that the mount outlives the worker that serves it.
 * It starts the worker, starts another one when that dies or hangs, and ends when the worker says that the mount has ended.
 * Everything else is decided in the worker (src/mount/guardian.ts is the other side).
 *
 *   tsfs detached|attached MOUNT_POINT VIEW CONTROL_SOCKET PROGRAM [ARGUMENT]...
 *
 * VIEW: a second mount point, or "". CONTROL_SOCKET: made here, so that whoever asks between two workers is heard by the next one.
 *
 * detached: fd 3 leads to the command that waits for the mount, and goes to the first worker. Workers outlive the guardian.
 * attached: in the foreground of a terminal, a container or systemd. Workers die with the guardian.
 *
 * A worker has fd 4, a stream socket to the guardian; fd 5, /dev/fuse; fd 6, another one for the view; fd 7, the listening control socket; fd 8
 * and 9, sockets that pass each packet on to the kernel, on the connection of mount and view; fd 10 and 11, memory where it keeps the requests
 * of mount and view that a successor may have to answer. The guardian first sends it one line of JSON:
 *   {"protocol":1,"restarts":N,"crashes":N,"failures":N,"mount":STATE,"view":STATE,"control":BOOLEAN,"notifiers":BOOLEAN,"kept":BOOLEAN,
 *    "reason":TEXT}
 * restarts: workers before this one. crashes: of these, how many in a row broke down soon after they had begun to serve. failures: how many in a
 * row ended before that. STATE: none (there is no device), unused, mounted, or ended. The worker sends lines: `beat` every second, `ready` once
 * it serves, `swap` before it exits to be replaced, and `end` before it exits for good, with the exit status of the guardian.
 *
 * A guardian stays while the workers of its mount are replaced by those of newer versions: what is said here is only added to. Where that cannot
 * be, `protocol` changes, and a worker that speaks another one refuses.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
  LAUNCH_FD = 3,
  SOCKET_FD = 4,
  DEVICE_FD = 5,
  VIEW_FD = 6,
  CONTROL_FD = 7,
  NOTIFIER_FD = 8,
  VIEW_NOTIFIER_FD = 9,
  KEPT_FD = 10,
  VIEW_KEPT_FD = 11,
  /* The guardian's own descriptors are above those that a worker gets. */
  FIRST_OWN_FD = 12,
  TICK_MS = 1000,
  /* Longer than any pause that the event loop of a worker may make. TSFS_WATCHDOG_MS overrides it. */
  SILENCE_LIMIT_MS = 30 * 1000,
  /* So many workers in a row that end before they serve: another one would not help. */
  MAX_FAILURES = 8,
  /* A worker that has served for so long was sound. */
  SOUND_AFTER_MS = 10 * 1000,
  /* So many crashes in a row are answered at once. */
  FREE_CRASHES = 2,
  FIRST_PAUSE_MS = 100,
  LONGEST_PAUSE_MS = 5000,
  CONTROL_BACKLOG = 16,
  MAX_DESCRIPTORS = 1024,
  /* Longer than any message to the kernel that is not an answer: a name, and headers. */
  MAX_NOTIFICATION_BYTES = 4096,
};

enum { WARN = 40, ERROR = 50, FATAL = 60 };

struct connection {
  const char *mount_point;
  int device;
  /* Where workers write what the kernel is to be told. */
  int notifier;
  /* Memory that workers leave to each other. */
  int kept;
  bool was_mounted;
};

static struct connection main_mount = {NULL, -1, -1, -1, false};
static struct connection view = {NULL, -1, -1, -1, false};
static const char *control_path;
static int control = -1;
static char **command;
static bool attached;
static int signals = -1;
static sigset_t before;

static pid_t worker;
static int channel = -1;
static char line[64];
static size_t line_length;
static long silent_ms;
static long ready_at_ms, heard_at_ms;
static bool is_ready, says_swap, says_end, is_hung;

static unsigned restarts;
static unsigned failures;
static unsigned crashes;
static bool is_stopping;
static char reason[96];
static long silence_limit_ms = SILENCE_LIMIT_MS;

static long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* In the form of the worker's log. The text has nothing that JSON escapes. */
__attribute__((format(printf, 2, 3))) static void say(int level, const char *format, ...) {
  char text[256], stamp[32];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", gmtime(&now.tv_sec));
  dprintf(STDERR_FILENO, "{\"level\":%d,\"time\":\"%s.%03ldZ\",\"pid\":%d,\"msg\":\"guardian: %s\"}\n", level, stamp,
          now.tv_nsec / 1000000, getpid(), text);
}

/* sd_notify(3): one datagram. Whether anybody takes it is not our concern. */
static void notify_systemd(const char *state) {
  const char *path = getenv("NOTIFY_SOCKET");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (path == NULL || strlen(path) >= sizeof address.sun_path) return;
  memcpy(address.sun_path, path, strlen(path));
  if (path[0] == '@') address.sun_path[0] = '\0';
  const socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address, size);
  close(fd);
}

static int own(int fd) {
  if (fd < 0) return fd;
  const int moved = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_OWN_FD);
  close(fd);
  return moved;
}

/* POLLERR: nothing was mounted with it yet, or the mount has ended. */
static bool is_mounted(struct connection *of) {
  struct pollfd state = {of->device, POLLIN, 0};
  const bool is = of->device >= 0 && poll(&state, 1, 0) >= 0 && (state.revents & (POLLERR | POLLNVAL)) == 0;
  of->was_mounted |= is;
  return is;
}

static const char *state_of(struct connection *of) {
  if (of->device < 0) return "none";
  if (is_mounted(of)) return "mounted";
  return of->was_mounted ? "ended" : "unused";
}

/* The worker says what is wrong when there is none. */
static void open_control(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(control_path) >= sizeof address.sun_path) return;
  strcpy(address.sun_path, control_path);
  const int fd = own(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const mode_t mask = umask(077);
  const bool is_bound = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
  umask(mask);
  if (is_bound && listen(fd, CONTROL_BACKLOG) == 0) control = fd;
  else if (fd >= 0) close(fd);
}

struct notifier {
  struct connection *connection;
  int socket;
};

/*
 * Nobody is left who could answer what a stuck notification waits for: then the connection ends, and with it all waiting. As the owner of the
 * mount only the kernel's list of connections can do it, where it is mounted.
 */
static void *watch_notifier(void *argument) {
  const struct notifier *self = argument;
  struct pollfd hung_up = {self->socket, 0, 0};
  while (poll(&hung_up, 1, -1) < 0 || (hung_up.revents & (POLLHUP | POLLERR)) == 0) continue;
  sleep(1);
  umount2(self->connection->mount_point, MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW);
  return NULL;
}

/*
 * A process that tells the kernel what has changed. The kernel lets it wait until requests are answered, and meanwhile it cannot be killed. A
 * worker that waits so would never quite end, and the requests would never be answered.
 */
__attribute__((noreturn)) static void notify_kernel(struct notifier *self) {
  prctl(PR_SET_NAME, "tsfs-notifier");
  for (int fd = LAUNCH_FD; fd < MAX_DESCRIPTORS; fd += 1) {
    if (fd != self->socket && fd != self->connection->device) close(fd);
  }
  pthread_t watcher;
  pthread_create(&watcher, NULL, watch_notifier, self);
  char message[MAX_NOTIFICATION_BYTES];
  ssize_t size;
  while ((size = recv(self->socket, message, sizeof message, 0)) > 0 || (size < 0 && errno == EINTR)) {
    /* That the kernel knows no such node or name is as good. */
    const ssize_t written = size > 0 ? write(self->connection->device, message, (size_t)size) : 0;
    (void)written;
  }
  _exit(0);
}

static void start_notifier(struct connection *of) {
  int pair[2];
  if (of->device < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return;
  struct notifier self = {of, own(pair[1])};
  const int ours = own(pair[0]);
  const pid_t pid = fork();
  if (pid == 0) {
    close(ours);
    notify_kernel(&self);
  }
  close(self.socket);
  fcntl(ours, F_SETFL, O_NONBLOCK);
  if (pid > 0) of->notifier = ours;
  else close(ours);
}

static void become_worker(int socket_fd) {
  if (attached) prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigprocmask(SIG_SETMASK, &before, NULL);
  dup2(socket_fd, SOCKET_FD);
  if (main_mount.device >= 0) dup2(main_mount.device, DEVICE_FD);
  if (view.device >= 0) dup2(view.device, VIEW_FD);
  if (control >= 0) dup2(control, CONTROL_FD);
  if (main_mount.notifier >= 0) dup2(main_mount.notifier, NOTIFIER_FD);
  if (view.notifier >= 0) dup2(view.notifier, VIEW_NOTIFIER_FD);
  if (main_mount.kept >= 0) dup2(main_mount.kept, KEPT_FD);
  if (view.kept >= 0) dup2(view.kept, VIEW_KEPT_FD);
  unsetenv("NOTIFY_SOCKET");
  unsetenv("WATCHDOG_USEC");
  // glibc gives each thread memory of its own and takes little of it back: some 20 MB with as many threads.
  setenv("MALLOC_ARENA_MAX", "2", 0);
  execvp(command[0], command);
  say(FATAL, "%s could not be started: %s", command[0], strerror(errno));
  _exit(127);
}

/* With all that has a device. */
static const char *for_all(int of_mount, int of_view) {
  return of_mount >= 0 && (view.device < 0 || of_view >= 0) ? "true" : "false";
}

static void start_worker(void) {
  int pair[2];
  const bool is_first = restarts == 0;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    say(FATAL, "no socket: %s", strerror(errno));
    exit(1);
  }
  const int ours = own(pair[0]), theirs = own(pair[1]);
  fcntl(ours, F_SETFL, O_NONBLOCK);
  is_ready = says_swap = says_end = is_hung = false;
  silent_ms = 0;
  line_length = 0;
  fcntl(theirs, F_SETFL, O_NONBLOCK);
  dprintf(ours,
          "{\"protocol\":1,\"restarts\":%u,\"crashes\":%u,\"failures\":%u,\"mount\":\"%s\",\"view\":\"%s\",\"control\":%s,"
          "\"notifiers\":%s,\"kept\":%s,\"reason\":\"%s\"}\n",
          restarts, crashes, failures, state_of(&main_mount), state_of(&view), control >= 0 ? "true" : "false",
          for_all(main_mount.notifier, view.notifier), for_all(main_mount.kept, view.kept), reason);
  worker = fork();
  if (worker == 0) become_worker(theirs);
  if (worker < 0) {
    say(FATAL, "no process: %s", strerror(errno));
    exit(1);
  }
  close(theirs);
  channel = ours;
  if (is_first && !attached) {
    close(LAUNCH_FD);
    unsetenv("NODE_CHANNEL_FD");
    unsetenv("NODE_CHANNEL_SERIALIZATION_MODE");
  }
}

static void take_line(void) {
  if (strcmp(line, "ready") == 0) {
    is_ready = true;
    ready_at_ms = now_ms();
    failures = 0;
    is_mounted(&main_mount);
    is_mounted(&view);
    char state[64];
    snprintf(state, sizeof state, "READY=1\nMAINPID=%d", getpid());
    notify_systemd(state);
  } else if (strcmp(line, "swap") == 0) {
    says_swap = true;
  } else if (strcmp(line, "end") == 0) {
    says_end = true;
    notify_systemd("STOPPING=1");
  }
}

static void read_channel(void) {
  char bytes[256];
  ssize_t count;
  while (channel >= 0 && (count = read(channel, bytes, sizeof bytes)) != -1) {
    if (count == 0) {
      close(channel);
      channel = -1;
      return;
    }
    silent_ms = 0;
    heard_at_ms = now_ms();
    for (ssize_t i = 0; i < count; i += 1) {
      if (bytes[i] == '\n') {
        line[line_length] = '\0';
        take_line();
        line_length = 0;
      } else if (line_length < sizeof line - 1) {
        line[line_length++] = bytes[i];
      }
    }
  }
}

/* As the owner of the mount only fusermount3 may do it. */
static void unmount(struct connection *of) {
  if (!is_mounted(of) || umount2(of->mount_point, MNT_DETACH | UMOUNT_NOFOLLOW) == 0) return;
  const pid_t helper = fork();
  if (helper == 0) {
    sigprocmask(SIG_SETMASK, &before, NULL);
    execlp("fusermount3", "fusermount3", "-u", "-z", "--", of->mount_point, (char *)NULL);
    _exit(127);
  }
  if (helper > 0) waitpid(helper, NULL, 0);
}

/* What is mounted without anybody to serve it must not stay behind. */
__attribute__((noreturn)) static void leave(int exit_code) {
  unmount(&main_mount);
  unmount(&view);
  if (control >= 0) unlink(control_path);
  exit(exit_code);
}

static void describe_end(int status) {
  if (says_swap) {
    snprintf(reason, sizeof reason, "a restart was asked for");
  } else if (is_hung) {
    snprintf(reason, sizeof reason, "it did not answer for %ld s", silence_limit_ms / 1000);
  } else if (WIFSIGNALED(status)) {
    snprintf(reason, sizeof reason, "it was ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
  } else {
    snprintf(reason, sizeof reason, "it ended with status %d", WEXITSTATUS(status));
  }
}

static long pause_after(unsigned count) {
  const long pause_ms = count < 8 ? (long)FIRST_PAUSE_MS << count : LONGEST_PAUSE_MS;
  return pause_ms < LONGEST_PAUSE_MS ? pause_ms : LONGEST_PAUSE_MS;
}

/* The worker had begun to serve. */
static long after_service(bool is_killed) {
  if (says_swap) return 0;
  say(WARN, "the worker is replaced: %s", reason);
  if (is_killed) return 0;
  /* A worker that hung was sound for as long as it was heard. */
  if (heard_at_ms - ready_at_ms >= SOUND_AFTER_MS) crashes = 0;
  crashes += 1;
  if (crashes <= FREE_CRASHES) return 0;
  const long pause_ms = pause_after(crashes - FREE_CRASHES);
  say(ERROR, "%u workers in a row broke down soon after they had begun to serve; the next one starts in %ld ms", crashes, pause_ms);
  return pause_ms;
}

/* Returns how long to wait before the next worker starts. Does not return when there is none to be. */
static long worker_ended(int status) {
  read_channel();
  if (channel >= 0) close(channel);
  channel = -1;
  worker = 0;
  const int exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
  describe_end(status);
  is_mounted(&main_mount);
  if (says_end || !main_mount.was_mounted) {
    if (!says_end && !is_stopping && !WIFEXITED(status)) say(FATAL, "the worker ended: %s", reason);
    leave(exit_code);
  }
  if (is_stopping) {
    say(WARN, "the worker ended before it had unmounted: %s", reason);
    leave(1);
  }
  restarts += 1;
  /* Somebody's SIGKILL says nothing about the next worker. */
  const bool is_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && !is_hung;
  if (is_ready) return after_service(is_killed);
  if (!is_killed) failures += 1;
  if (failures >= MAX_FAILURES) {
    say(FATAL, "%u workers in a row ended at once (%s); unmounting %s", failures, reason, main_mount.mount_point);
    leave(1);
  }
  say(WARN, "the worker ended before it was ready: %s", reason);
  return pause_after(failures);
}

/* Returns the pause before the next worker, or -1 when the worker lives. */
static long reap(void) {
  long pause_ms = -1;
  int status;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    if (pid == worker) pause_ms = worker_ended(status);
  }
  return pause_ms;
}

static long take_signals(void) {
  struct signalfd_siginfo info;
  long pause_ms = -1;
  while (read(signals, &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGCHLD) {
      pause_ms = reap();
      continue;
    }
    if (info.ssi_signo != SIGHUP) is_stopping = true;
    if (worker > 0) kill(worker, (int)info.ssi_signo);
  }
  return pause_ms;
}

/* Counted in steps of our own: when the whole machine stood still, nobody was silent. */
static void watch(long elapsed_ms) {
  if (worker == 0 || is_hung) return;
  silent_ms += elapsed_ms < 2 * TICK_MS ? elapsed_ms : 2 * TICK_MS;
  if (silent_ms < silence_limit_ms) return;
  is_hung = true;
  kill(worker, SIGKILL);
}

static void set_up(void) {
  prctl(PR_SET_NAME, "tsfs");
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGTERM);
  sigaddset(&mask, SIGINT);
  sigaddset(&mask, SIGHUP);
  sigaddset(&mask, SIGCHLD);
  sigprocmask(SIG_BLOCK, &mask, &before);
  signal(SIGPIPE, SIG_IGN);
  signals = own(signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC));
  /* Without a device the worker says what is missing. */
  main_mount.device = own(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (view.mount_point[0] != '\0') view.device = own(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  /* Before anything else is open: they must not keep it so. */
  start_notifier(&main_mount);
  start_notifier(&view);
  main_mount.kept = own(memfd_create("tsfs-requests", MFD_CLOEXEC));
  if (view.device >= 0) view.kept = own(memfd_create("tsfs-view-requests", MFD_CLOEXEC));
  open_control();
  const char *limit = getenv("TSFS_WATCHDOG_MS");
  if (limit != NULL && atol(limit) > 0) silence_limit_ms = atol(limit);
}

static void run(void) {
  const char *usec = getenv("WATCHDOG_USEC");
  const long ping_ms = usec == NULL ? 0 : atol(usec) / 2000;
  const long tick_ms = ping_ms > 0 && ping_ms < TICK_MS ? ping_ms : TICK_MS;
  long pinged_at_ms = now_ms(), looked_at_ms = pinged_at_ms, start_at_ms = 0;
  start_worker();
  for (;;) {
    long wait_ms = tick_ms;
    if (worker == 0 && start_at_ms - looked_at_ms < wait_ms) wait_ms = start_at_ms - looked_at_ms;
    struct pollfd ready[] = {{signals, POLLIN, 0}, {channel, POLLIN, 0}};
    poll(ready, 2, wait_ms < 0 ? 0 : (int)wait_ms);
    const long now = now_ms();
    read_channel();
    const long pause_ms = take_signals();
    if (pause_ms >= 0) start_at_ms = now + pause_ms;
    if (worker == 0 && is_stopping) leave(1);
    if (worker == 0 && now >= start_at_ms) start_worker();
    watch(now - looked_at_ms);
    looked_at_ms = now;
    if (ping_ms > 0 && now - pinged_at_ms >= ping_ms) {
      notify_systemd("WATCHDOG=1");
      pinged_at_ms = now;
    }
  }
}

int main(int count, char **words) {
  if (count < 6) {
    fprintf(stderr, "usage: tsfs-guardian detached|attached MOUNT_POINT VIEW CONTROL_SOCKET PROGRAM [ARGUMENT]...\n");
    return 2;
  }
  attached = strcmp(words[1], "attached") == 0;
  main_mount.mount_point = words[2];
  view.mount_point = words[3];
  control_path = words[4];
  command = words + 5;
  set_up();
  run();
}
