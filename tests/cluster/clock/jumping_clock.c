// SPDX-License-Identifier: Apache-2.0
/*
 * A wall clock of one process that a test can set: preloaded, it adds to CLOCK_REALTIME the
 * nanoseconds that the file CLOCK_OFFSET_FILE holds (int64), at once when the file changes. Other
 * clocks are left alone.
 *
 * Waits until a moment of the wall clock are served as the kernel serves them: they end when this
 * clock gets there, also by a jump during the wait, and wait on when it has jumped back. Those are
 * Abseil's (futex with FUTEX_CLOCK_REALTIME, by syscall()) and the C library's.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t kSecondNs = 1000000000;
static const int64_t kSliceNs = 50000000;
// Deadlines beyond this are of the wall clock; no machine is up for so many seconds.
static const time_t kWallSeconds = 1000000000;

static const volatile int64_t* offset_ns;
static int (*real_clock_gettime)(clockid_t, struct timespec*);
static long (*real_syscall)(long, ...);
static int (*real_cond_clockwait)(pthread_cond_t*, pthread_mutex_t*, clockid_t,
                                  const struct timespec*);
static int (*real_cond_timedwait)(pthread_cond_t*, pthread_mutex_t*, const struct timespec*);

__attribute__((constructor)) static void Begin(void) {
  if (offset_ns != NULL) return;
  real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
  real_syscall = dlsym(RTLD_NEXT, "syscall");
  real_cond_clockwait = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
  real_cond_timedwait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  const char* path = getenv("CLOCK_OFFSET_FILE");
  const int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  void* map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
  if (fd >= 0) close(fd);
  if (map == MAP_FAILED) abort();  // a test that believes in its clock must have it
  offset_ns = map;
}

static struct timespec ToTimespec(int64_t ns) {
  struct timespec t = {.tv_sec = ns / kSecondNs, .tv_nsec = ns % kSecondNs};
  return t;
}
static int64_t ToNs(const struct timespec* t) {
  return t->tv_sec * kSecondNs + t->tv_nsec;
}

static int64_t NowNs(clockid_t clock) {
  Begin();
  struct timespec t;
  real_clock_gettime(clock, &t);
  const int wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
  return ToNs(&t) + (wall ? *offset_ns : 0);
}

// What is left until a moment of the wall clock, at most a slice; 0 or less when it has come.
static int64_t SliceNs(const struct timespec* until) {
  const int64_t left = ToNs(until) - NowNs(CLOCK_REALTIME);
  return left < kSliceNs ? left : kSliceNs;
}

int clock_gettime(clockid_t clock, struct timespec* out) {
  Begin();
  if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)
    return real_clock_gettime(clock, out);
  *out = ToTimespec(NowNs(clock));
  return 0;
}

int gettimeofday(struct timeval* restrict out, void* restrict zone) {
  (void)zone;
  const int64_t ns = NowNs(CLOCK_REALTIME);
  out->tv_sec = ns / kSecondNs;
  out->tv_usec = ns % kSecondNs / 1000;
  return 0;
}

time_t time(time_t* out) {
  const time_t now = NowNs(CLOCK_REALTIME) / kSecondNs;
  if (out != NULL) *out = now;
  return now;
}

long syscall(long number, ...) {
  Begin();
  va_list list;
  va_start(list, number);
  long a[6];
  for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
  va_end(list);
  const long wall_wait = FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME;
  const struct timespec* until = (const struct timespec*)a[3];
  if (number != SYS_futex || ((int)a[1] & ~FUTEX_PRIVATE_FLAG) != wall_wait || until == NULL)
    return real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  const long op = FUTEX_WAIT | ((int)a[1] & FUTEX_PRIVATE_FLAG);
  for (;;) {
    const int64_t slice_ns = SliceNs(until);
    if (slice_ns <= 0) {
      errno = ETIMEDOUT;
      return -1;
    }
    const struct timespec slice = ToTimespec(slice_ns);
    const long done = real_syscall(SYS_futex, a[0], op, a[2], (long)&slice, 0L, 0L);
    if (done == 0 || errno != ETIMEDOUT) return done;
  }
}

// A slice that ends is told as a spurious wakeup: a signal that came just then is not missed.
static int WaitSlice(pthread_cond_t* cond, pthread_mutex_t* mutex, const struct timespec* until) {
  const int64_t slice_ns = SliceNs(until);
  if (slice_ns <= 0) return ETIMEDOUT;
  const struct timespec end = ToTimespec(NowNs(CLOCK_MONOTONIC) + slice_ns);
  const int done = real_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, &end);
  return done == ETIMEDOUT ? 0 : done;
}

int pthread_cond_timedwait(pthread_cond_t* restrict cond, pthread_mutex_t* restrict mutex,
                           const struct timespec* restrict until) {
  Begin();
  return until->tv_sec > kWallSeconds ? WaitSlice(cond, mutex, until)
                                      : real_cond_timedwait(cond, mutex, until);
}

int pthread_cond_clockwait(pthread_cond_t* cond, pthread_mutex_t* mutex, clockid_t clock,
                           const struct timespec* until) {
  Begin();
  return clock == CLOCK_REALTIME ? WaitSlice(cond, mutex, until)
                                 : real_cond_clockwait(cond, mutex, clock, until);
}
