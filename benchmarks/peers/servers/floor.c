/* The floor: what a broadcast costs when nothing but the kernel is in the way.
 *
 * One thread, one epoll, one send() for each delivery, straight from the publisher's frame. A client that asks for
 * /pub publishes, every other one listens. No tokens, no validation, no order, no memory: a slow reader loses frames.
 * gcc -O2 -o floor floor.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FDS 131072
#define IN_BYTES 262144

typedef struct { int open, publisher, held; unsigned char *in; } client;
static client clients[MAX_FDS];
static int listeners[MAX_FDS], count, place[MAX_FDS];

static void sha1(const unsigned char *text, size_t size, unsigned char out[20]) {
  uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
  unsigned char block[128] = {0};
  size_t blocks = (size + 8) / 64 + 1;
  if (blocks > 2) return;
  memcpy(block, text, size);
  block[size] = 0x80;
  for (int i = 0; i < 8; i++) block[blocks * 64 - 1 - i] = (uint64_t)(size * 8) >> (8 * i);
  for (size_t b = 0; b < blocks; b++) {
    uint32_t w[80];
    for (int i = 0; i < 16; i++) { const unsigned char *p = block + b * 64 + i * 4; w[i] = p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]; }
    for (int i = 16; i < 80; i++) { uint32_t v = w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16]; w[i] = v << 1 | v >> 31; }
    uint32_t a = h[0], bb = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 80; i++) {
      uint32_t f, k;
      if (i < 20) { f = (bb & c) | (~bb & d); k = 0x5A827999; }
      else if (i < 40) { f = bb ^ c ^ d; k = 0x6ED9EBA1; }
      else if (i < 60) { f = (bb & c) | (bb & d) | (c & d); k = 0x8F1BBCDC; }
      else { f = bb ^ c ^ d; k = 0xCA62C1D6; }
      uint32_t t = (a << 5 | a >> 27) + f + e + k + w[i];
      e = d; d = c; c = bb << 30 | bb >> 2; bb = a; a = t;
    }
    h[0] += a; h[1] += bb; h[2] += c; h[3] += d; h[4] += e;
  }
  for (int i = 0; i < 20; i++) out[i] = h[i / 4] >> (24 - 8 * (i % 4));
}

static void base64(const unsigned char *in, int size, char *out) {
  static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (int i = 0; i < size; i += 3) {
    uint32_t v = in[i] << 16 | (i + 1 < size ? in[i + 1] << 8 : 0) | (i + 2 < size ? in[i + 2] : 0);
    *out++ = set[v >> 18]; *out++ = set[v >> 12 & 63];
    *out++ = i + 1 < size ? set[v >> 6 & 63] : '='; *out++ = i + 2 < size ? set[v & 63] : '=';
  }
  *out = 0;
}

static void drop(int fd) {
  client *c = &clients[fd];
  if (c->open && !c->publisher) { int last = listeners[--count]; listeners[place[fd]] = last; place[last] = place[fd]; }
  free(c->in);
  memset(c, 0, sizeof *c);
  close(fd);
}

static void broadcast(const unsigned char *payload, size_t size) {
  static unsigned char frame[IN_BYTES + 16];
  size_t head = 2;
  frame[0] = 0x81;
  if (size < 126) frame[1] = size;
  else { frame[1] = 126; frame[2] = size >> 8; frame[3] = size; head = 4; }
  memcpy(frame + head, payload, size);
  for (int i = count - 1; i >= 0; i--)
    if (send(listeners[i], frame, head + size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN) drop(listeners[i]);
}

static int shake(int fd, client *c) {
  c->in[c->held] = 0;
  char *end = strstr((char *)c->in, "\r\n\r\n"), *key = strcasestr((char *)c->in, "sec-websocket-key:");
  if (!end) return c->held < 8192;
  if (!key) return 0;
  char joined[128], accept[32], answer[256];
  unsigned char hash[20];
  key += 18;
  while (*key == ' ') key++;
  snprintf(joined, sizeof joined, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
  sha1((unsigned char *)joined, strlen(joined), hash);
  base64(hash, 20, accept);
  c->publisher = !strncmp((char *)c->in, "GET /pub", 8);
  int n = snprintf(answer, sizeof answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
  if (send(fd, answer, n, MSG_NOSIGNAL) != n) return 0;
  c->open = 1;
  if (!c->publisher) { place[fd] = count; listeners[count++] = fd; }
  int used = end + 4 - (char *)c->in;
  memmove(c->in, c->in + used, c->held -= used);
  return 1;
}

static int frames(client *c) {
  int at = 0;
  while (c->held - at >= 6) {
    unsigned char *p = c->in + at;
    int op = p[0] & 15, size = p[1] & 127, head = 2;
    if (size == 127 || !(p[1] & 128)) return 0;
    if (size == 126) { if (c->held - at < 8) break; size = p[2] << 8 | p[3]; head = 4; }
    if (c->held - at < head + 4 + size) break;
    unsigned char *mask = p + head, *payload = mask + 4;
    for (int i = 0; i < size; i++) payload[i] ^= mask[i & 3];
    if (op == 8) return 0;
    if (c->publisher && (op == 1 || op == 2)) broadcast(payload, size);
    at += head + 4 + size;
  }
  memmove(c->in, c->in + at, c->held -= at);
  return 1;
}

int main(int argc, char **argv) {
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  int server = socket(AF_INET, SOCK_STREAM, 0), one = 1, poll = epoll_create1(0);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 8700), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(server, (void *)&at, sizeof at) || listen(server, 4096)) { perror("floor"); return 1; }
  struct epoll_event event = {.events = EPOLLIN, .data.fd = server}, ready[512];
  epoll_ctl(poll, EPOLL_CTL_ADD, server, &event);
  for (;;) {
    int n = epoll_wait(poll, ready, 512, -1);
    for (int i = 0; i < n; i++) {
      int fd = ready[i].data.fd;
      if (fd == server) {
        fd = accept4(server, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0) continue;
        if (fd >= MAX_FDS) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        clients[fd].in = malloc(IN_BYTES / 64);
        event.events = EPOLLIN, event.data.fd = fd;
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
        continue;
      }
      client *c = &clients[fd];
      if (!c->in) continue;
      if (c->open && c->publisher) c->in = realloc(c->in, IN_BYTES + 1);
      int room = (c->open && c->publisher ? IN_BYTES : IN_BYTES / 64 - 1) - c->held;
      ssize_t got = room > 0 ? recv(fd, c->in + c->held, room, 0) : 0;
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (got <= 0) { drop(fd); continue; }
      c->held += got;
      if ((!c->open && !shake(fd, c)) || (c->open && !frames(c))) drop(fd);
    }
  }
}
