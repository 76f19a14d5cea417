/* A disk for tests, in the midst of a process: it fails, it has no room left, it tears what is being written,
 * and when the power goes it forgets any part of what no sync has confirmed. Put in front of the C library
 * by LD_PRELOAD; files whose path holds "inbox.db" are on this disk.
 *
 * HOOKGATE_DISK: "cut N", "eio N", "full N", "torn N", "syncfail N": what happens at the N-th write or
 * sync. After a cut the process ends at once. HOOKGATE_DISK_SEED chooses what is forgotten. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t alone = PTHREAD_MUTEX_INITIALIZER;
static uint64_t seed = 1;
static long left = -1;
static char fault[16];
static int ready;

/* What was there before each write that no sync has confirmed, newest last. */
struct undo { ino_t file; int fd; off_t at; size_t length; off_t size; char *bytes; };
static struct undo undos[65536];
static int count;

static uint64_t draw(void) { seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17; return seed; }

static void begin(void) {
  if (ready) return;
  ready = 1;
  const char *told = getenv("HOOKGATE_DISK");
  if (told) sscanf(told, "%15s %ld", fault, &left);
  const char *chance = getenv("HOOKGATE_DISK_SEED");
  if (chance) seed = strtoull(chance, 0, 10) * 0x9e3779b97f4a7c15ull + 1;
}

static int ours(int fd, struct stat *there) {
  char link[64], path[512];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return strstr(path, "inbox.db") && !fstat(fd, there);
}

typedef ssize_t (*writer)(int, const void *, size_t, off_t);
static ssize_t really(int fd, const void *bytes, size_t length, off_t at) {
  static writer next;
  if (!next) next = (writer)dlsym(RTLD_NEXT, "pwrite64");
  return next(fd, bytes, length, at);
}
static int really_cut(int fd, off_t size) {
  static int (*next)(int, off_t);
  if (!next) next = (int (*)(int, off_t))dlsym(RTLD_NEXT, "ftruncate64");
  return next(fd, size);
}

/* The power goes. Of what is not confirmed each sector may be on the disk or not, whatever came first. */
static void cut(void) {
  for (int n = count - 1; n >= 0; n--) {
    struct undo *u = &undos[n];
    if (draw() % 3 == 0) continue;
    for (size_t at = 0; at < u->length; at += 512) {
      if (draw() % 4 == 0) continue;
      size_t part = u->length - at < 512 ? u->length - at : 512;
      if (u->at + (off_t)at < u->size) really(u->fd, u->bytes + at, part, u->at + at);
      else { char none[512] = {0}; really(u->fd, none, part, u->at + at); }
    }
  }
  _exit(75);
}

static int strikes(void) { return left >= 0 && left-- == 0; }

static ssize_t put(int fd, const void *bytes, size_t length, off_t at) {
  struct stat there;
  if (!ours(fd, &there)) return really(fd, bytes, length, at);
  pthread_mutex_lock(&alone);
  begin();
  int now = strikes();
  ssize_t done;
  if (now && !strcmp(fault, "eio")) { errno = EIO; done = -1; }
  else if (now && !strcmp(fault, "full")) { left = 20; errno = ENOSPC; done = -1; }
  else {
    if (count < 65536 && !strcmp(fault, "cut")) {
      struct undo *u = &undos[count++];
      u->file = there.st_ino; u->fd = dup(fd); u->at = at; u->length = length; u->size = there.st_size;
      u->bytes = calloc(1, length);
      if (pread(fd, u->bytes, length, at) < 0) u->bytes[0] = 0;
    }
    if (now && !strcmp(fault, "torn")) { really(fd, bytes, length / 2, at); _exit(75); }
    done = really(fd, bytes, length, at);
    if (now && !strcmp(fault, "cut")) cut();
  }
  pthread_mutex_unlock(&alone);
  return done;
}
ssize_t pwrite64(int fd, const void *b, size_t n, off_t at) { return put(fd, b, n, at); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) { return put(fd, b, n, at); }

static int confirm(int fd, const char *name) {
  struct stat there;
  int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
  if (!ours(fd, &there)) return next(fd);
  pthread_mutex_lock(&alone);
  begin();
  int done = 0;
  if (strikes()) {
    if (!strcmp(fault, "cut")) cut();
    if (!strcmp(fault, "syncfail") || !strcmp(fault, "eio")) { errno = EIO; done = -1; }
  }
  if (!done) {
    /* The disk is this process's memory of it: a cut forgets nothing from before this moment. */
    int kept = 0;
    for (int n = 0; n < count; n++) {
      if (undos[n].file == there.st_ino) { free(undos[n].bytes); close(undos[n].fd); }
      else undos[kept++] = undos[n];
    }
    count = kept;
  }
  pthread_mutex_unlock(&alone);
  return done;
}
int fsync(int fd) { return confirm(fd, "fsync"); }
int fdatasync(int fd) { return confirm(fd, "fdatasync"); }
int ftruncate64(int fd, off_t size) { return really_cut(fd, size); }
