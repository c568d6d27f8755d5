/* Prints the first datagram that arrives on a Unix socket: receive-datagram NAME, or @NAME for an abstract one. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int count, char **names) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char text[1024];
  if (count < 2) return 2;
  strncpy(address.sun_path, names[1], sizeof address.sun_path - 1);
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(names[1]));
  if (names[1][0] == '@') address.sun_path[0] = 0;
  int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
  if (bind(fd, (struct sockaddr *)&address, size) != 0) return 1;
  puts("ready");
  fflush(stdout);
  alarm(20);
  ssize_t length = recv(fd, text, sizeof text, 0);
  return length < 0 || fwrite(text, 1, (size_t)length, stdout) == 0;
}
