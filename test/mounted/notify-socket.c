/* In place of systemd: takes what a service says (sd_notify(3)) and prints it, with spaces for the ends of lines. Node has no datagram sockets of Unix. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int count, char **words) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (count != 2 || strlen(words[1]) >= sizeof address.sun_path) return 2;
  strcpy(address.sun_path, words[1]);
  const int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
    perror(words[1]);
    return 1;
  }
  puts("listening");
  for (;;) {
    fflush(stdout);
    char message[1024];
    const ssize_t size = recv(fd, message, sizeof message - 1, 0);
    if (size <= 0) return 1;
    for (ssize_t i = 0; i < size; i++) putchar(message[i] == '\n' ? ' ' : message[i]);
    putchar('\n');
  }
}
