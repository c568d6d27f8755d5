/*
 * The few things that Node cannot ask of Linux: giving back the memory that its own code takes, telling the service
 * manager how we are (sd_notify), finding out whose socket it is that holds a name, and changing nftables.
 *
 * Built by scripts/executable/native-addon.ts against Node-API, so any Node 24 of the architecture can load it; only C
 * library functions that glibc has had for ever are used. See native-functions.ts for what each function promises.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <malloc.h>
#include <node_api.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static napi_value number_of(napi_env env, double value) {
  napi_value result;
  napi_create_double(env, value, &result);
  return result;
}

/* More than the list of a process with thousands of mappings; the rest of a longer list is left alone. */
#define LIST_BYTES (4 * 1024 * 1024)

/* The whole list, ended by a zero byte; to be freed. Read before it is used, so that it does not change meanwhile. */
static char *read_mappings(void) {
  char *list = malloc(LIST_BYTES);
  int fd = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
  size_t length = 0;
  while (list != NULL && fd >= 0 && length < LIST_BYTES - 1) {
    ssize_t count = read(fd, list + length, LIST_BYTES - 1 - length);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    length += (size_t)count;
  }
  if (fd >= 0) close(fd);
  if (list != NULL) list[length] = 0;
  return list;
}

struct mapping {
  unsigned long start, stop;
  int is_code;                /* private, not writable, of our executable */
  unsigned long own_kilobytes; /* pages that are no longer those of the file, in memory or swapped out */
  int fields;
};

static double release(const struct mapping *mapping) {
  const int all_fields = 2;
  if (!mapping->is_code || mapping->fields != all_fields || mapping->own_kilobytes != 0) return 0;
  size_t size = mapping->stop - mapping->start;
  return madvise((void *)mapping->start, size, MADV_DONTNEED) == 0 ? (double)size : 0;
}

/* 00400000-00e00000 r-xp 00001000 fe:00 1234   /usr/local/bin/edgemesh */
static int parse_head(const char *line, const char *executable, struct mapping *mapping) {
  char *rest;
  mapping->start = strtoul(line, &rest, 16);
  if (rest == line || *rest != '-') return 0;
  mapping->stop = strtoul(rest + 1, &rest, 16);
  const char *path = strchr(rest, '/');
  mapping->is_code = strncmp(rest, " r", 2) == 0 && rest[2] == '-' && rest[4] == 'p' && path != NULL &&
                     strcmp(path, executable) == 0;
  mapping->own_kilobytes = 0;
  mapping->fields = 0;
  return 1;
}

static void parse_field(const char *line, struct mapping *mapping) {
  size_t name = strncmp(line, "Anonymous:", 10) == 0 ? 10 : strncmp(line, "Swap:", 5) == 0 ? 5 : 0;
  if (name == 0) return;
  mapping->own_kilobytes += strtoul(line + name, NULL, 10);
  mapping->fields += 1;
}

/*
 * releaseMemory() -> bytes
 *
 * Only the executable's own mappings, which no thread ever unmaps, and only those of which every page is still that of
 * the file: it comes back from the page cache when it is next used. What the dynamic linker has filled in, or a
 * debugger, would be lost, so a mapping with such pages is passed over.
 */
static napi_value release_memory(napi_env env, napi_callback_info info) {
  (void)info;
  malloc_trim(0);
  char executable[4096];
  ssize_t length = readlink("/proc/self/exe", executable, sizeof executable - 1);
  char *list = length > 0 ? read_mappings() : NULL;
  if (list == NULL) return number_of(env, 0);
  executable[length] = 0;
  double released = 0;
  struct mapping mapping = {0};
  for (char *line = list, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
    *end = 0;
    struct mapping next;
    if (parse_head(line, executable, &next)) {
      released += release(&mapping);
      mapping = next;
    } else {
      parse_field(line, &mapping);
    }
  }
  released += release(&mapping);
  free(list);
  return number_of(env, released);
}

/* trimFreeMemory(): in all arenas, and also what is free in their middle. */
static napi_value trim_free_memory(napi_env env, napi_callback_info info) {
  (void)env;
  (void)info;
  malloc_trim(0);
  return NULL;
}

/* sdNotify(socket, state) -> 0 or errno */
static napi_value sd_notify(napi_env env, napi_callback_info info) {
  napi_value args[2];
  size_t count = 2, name_length = 0, state_length = 0;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char state[1024];
  if (napi_get_cb_info(env, info, &count, args, NULL, NULL) != napi_ok || count < 2) return number_of(env, EINVAL);
  /* The terminating zero is written within the given size. */
  if (napi_get_value_string_utf8(env, args[0], address.sun_path, sizeof address.sun_path, &name_length) != napi_ok ||
      napi_get_value_string_utf8(env, args[1], state, sizeof state, &state_length) != napi_ok || name_length < 2 ||
      name_length >= sizeof address.sun_path - 1)
    return number_of(env, EINVAL);
  /* A name that begins with @ is in the abstract name space, whose names begin with a zero byte and end without. */
  if (address.sun_path[0] == '@') address.sun_path[0] = 0;
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return number_of(env, errno);
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + name_length + (address.sun_path[0] != 0));
  ssize_t sent = sendto(fd, state, state_length, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address, size);
  int error = sent < 0 ? errno : 0;
  close(fd);
  return number_of(env, error);
}

/*
 * ownerOf(name) -> the user that listens on the abstract socket of that name, or -1 when that cannot be told
 *
 * It never waits: whoever fills the queue of a listener does not get to keep us.
 */
static napi_value owner_of(napi_env env, napi_callback_info info) {
  napi_value args[1];
  size_t count = 1, length = 0;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (napi_get_cb_info(env, info, &count, args, NULL, NULL) != napi_ok || count < 1 ||
      napi_get_value_string_utf8(env, args[0], address.sun_path + 1, sizeof address.sun_path - 1, &length) != napi_ok)
    return number_of(env, -1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
  struct ucred owner;
  socklen_t owner_size = sizeof owner;
  double user = -1;
  if (fd >= 0 && connect(fd, (struct sockaddr *)&address, size) == 0 &&
      getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &owner, &owner_size) == 0)
    user = owner.uid;
  if (fd >= 0) close(fd);
  return number_of(env, user);
}

/* The kernel answers within the call that sends; more than that is patience with what is not understood. */
#define ANSWER_MS 1000

/* An answer is at most a few hundred bytes, as the message it is about is not repeated. */
#define LARGEST_ANSWER 4096

/*
 * Stays open between batches: closing it waits until the kernel has freed what the last one deleted, some 10 ms. The
 * process does not change its network namespace.
 */
static int netfilter = -1;

static int open_netfilter(void) {
  int receive_bytes = 4 * 1024 * 1024, yes = 1;
  if (netfilter >= 0) return 0;
  netfilter = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
  if (netfilter < 0) return errno;
  setsockopt(netfilter, SOL_SOCKET, SO_RCVBUFFORCE, &receive_bytes, sizeof receive_bytes);
  setsockopt(netfilter, SOL_NETLINK, NETLINK_CAP_ACK, &yes, sizeof yes);
  setsockopt(netfilter, SOL_NETLINK, NETLINK_EXT_ACK, &yes, sizeof yes);
  return 0;
}

/* What came too late, or got lost, would be taken for the answer to the next batch. */
static void close_netfilter(void) {
  close(netfilter);
  netfilter = -1;
}

static int send_batch(const void *batch, size_t length) {
  struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  int send_bytes = (int)length + 4096;
  ssize_t sent;
  /* A batch is one message; a limit that may not be lifted makes sending fail. */
  setsockopt(netfilter, SOL_SOCKET, SO_SNDBUFFORCE, &send_bytes, sizeof send_bytes);
  do sent = sendto(netfilter, batch, length, 0, (struct sockaddr *)&kernel, sizeof kernel);
  while (sent < 0 && errno == EINTR);
  if (sent < 0) return errno;
  return (size_t)sent == length ? 0 : EMSGSIZE;
}

/* All answers there are, as far as they fit: the first error tells enough. */
static double receive_answers(char *answers, size_t size) {
  size_t length = 0;
  while (length + LARGEST_ANSWER <= size) {
    ssize_t count = recv(netfilter, answers + length, size - length, MSG_DONTWAIT);
    if (count > 0) {
      length += NLMSG_ALIGN((size_t)count);
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno != EAGAIN) return -errno;
    struct pollfd answered = {.fd = netfilter, .events = POLLIN};
    if (length > 0 || poll(&answered, 1, ANSWER_MS) == 0) break;
  }
  return (double)length;
}

/*
 * changeNetfilter(batch, answers) -> how many bytes of answers there are now in the second buffer, or -errno
 *
 * The kernel takes all of the batch or nothing, before the call returns.
 */
static napi_value change_netfilter(napi_env env, napi_callback_info info) {
  napi_value args[2];
  size_t count = 2, batch_bytes = 0, answers_bytes = 0;
  void *batch = NULL, *answers = NULL;
  if (napi_get_cb_info(env, info, &count, args, NULL, NULL) != napi_ok || count < 2 ||
      napi_get_buffer_info(env, args[0], &batch, &batch_bytes) != napi_ok ||
      napi_get_buffer_info(env, args[1], &answers, &answers_bytes) != napi_ok || batch_bytes > INT32_MAX / 4)
    return number_of(env, -EINVAL);
  int error = open_netfilter();
  if (error == 0) error = send_batch(batch, batch_bytes);
  double result = error != 0 ? -error : receive_answers(answers, answers_bytes);
  if (netfilter >= 0 && (result <= 0 || result + LARGEST_ANSWER > (double)answers_bytes)) close_netfilter();
  return number_of(env, result);
}

static void add(napi_env env, napi_value exports, const char *name, napi_callback callback) {
  napi_value function;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, NULL, &function) == napi_ok)
    napi_set_named_property(env, exports, name, function);
}

NAPI_MODULE_INIT() {
  add(env, exports, "releaseMemory", release_memory);
  add(env, exports, "trimFreeMemory", trim_free_memory);
  add(env, exports, "sdNotify", sd_notify);
  add(env, exports, "ownerOf", owner_of);
  add(env, exports, "changeNetfilter", change_netfilter);
  return exports;
}
