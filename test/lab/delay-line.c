/*
 * A long line between two network namespaces, for kernels without netem:
 *
 *     delay-line NETNS DEVICE NETNS DEVICE DELAY_MS LOSS_PER_MILLION
 *
 * makes a TUN device of that name in each and carries packets between the two, each so much later, and some never. Prints
 * "ready" and runs until it is killed. The devices have no addresses and go away with it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 32768
#define PACKET 2048

struct packet {
  int64_t due_ns;
  int length;
  unsigned char bytes[PACKET];
};

struct line {
  int from, to;
  unsigned head, tail;
  struct packet *slots;
};

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int open_device(const char *netns, const char *name) {
  int space = open(netns, O_RDONLY);
  if (space < 0 || setns(space, CLONE_NEWNET) < 0) fail(netns);
  close(space);
  int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
  if (device < 0) fail("/dev/net/tun");
  struct ifreq request;
  memset(&request, 0, sizeof request);
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  if (ioctl(device, TUNSETIFF, &request) < 0) fail(name);
  return device;
}

/* Takes what is there; a full line drops, as a router does. */
static void take(struct line *line, int64_t delay_ns, unsigned loss_per_million) {
  static unsigned char dropped[PACKET];
  for (int count = 0; count < 256; count++) {
    int is_full = line->tail - line->head == SLOTS;
    struct packet *slot = &line->slots[line->tail % SLOTS];
    int length = read(line->from, is_full ? dropped : slot->bytes, PACKET);
    if (length <= 0) return;
    if (is_full || (unsigned)(random() % 1000000) < loss_per_million) continue;
    slot->length = length;
    slot->due_ns = now_ns() + delay_ns;
    line->tail++;
  }
}

static void hand_over(struct line *line, int64_t until_ns) {
  while (line->head != line->tail) {
    struct packet *slot = &line->slots[line->head % SLOTS];
    if (slot->due_ns > until_ns) return;
    if (write(line->to, slot->bytes, slot->length) < 0) { /* The device is down: lost, like others. */
    }
    line->head++;
  }
}

static int64_t wait_ns(const struct line *line, int64_t now) {
  if (line->head == line->tail) return 1000000000;
  int64_t left = line->slots[line->head % SLOTS].due_ns - now;
  return left < 0 ? 0 : left;
}

int main(int count, char **words) {
  if (count != 7) return 64;
  int one = open_device(words[1], words[2]), other = open_device(words[3], words[4]);
  int64_t delay_ns = (int64_t)(atof(words[5]) * 1e6);
  unsigned loss = (unsigned)atol(words[6]);
  struct line lines[2] = {{one, other, 0, 0, NULL}, {other, one, 0, 0, NULL}};
  for (int at = 0; at < 2; at++) {
    lines[at].slots = malloc(SLOTS * sizeof(struct packet));
    if (lines[at].slots == NULL) fail("malloc");
  }
  srandom(20261122);
  puts("ready");
  fflush(stdout);
  for (;;) {
    int64_t now = now_ns();
    int64_t wait = wait_ns(&lines[0], now), second = wait_ns(&lines[1], now);
    if (second < wait) wait = second;
    struct timespec timeout = {wait / 1000000000, wait % 1000000000};
    struct pollfd ready[2] = {{one, POLLIN, 0}, {other, POLLIN, 0}};
    if (ppoll(ready, 2, &timeout, NULL) > 0)
      for (int at = 0; at < 2; at++)
        if (ready[at].revents & POLLIN) take(&lines[at], delay_ns, loss);
    for (int at = 0; at < 2; at++) hand_over(&lines[at], now_ns());
  }
}
