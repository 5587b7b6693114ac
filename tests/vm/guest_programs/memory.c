// SPDX-License-Identifier: Apache-2.0
/*
 * Makes memory of one kind, prints the numbers of its pages, and keeps it for ever in the
 * background:
 *
 *   memory KIND MIB [PROCESSES]
 *
 * KIND: anon, thp (anonymous, one huge page of 2 MiB each), shmem (MIB of a tmpfs that may have
 * huge pages), hugetlb (2 MiB), gigantic (1 GiB), poison (one anonymous page that the kernel is
 * told is broken), soft-offline (one that it is told will break). Each of PROCESSES has MIB of
 * its own, not zero and not alike. Prints "KIND first-last" per run of page numbers, in hex,
 * of the first process; for poison and soft-offline those that the page had before.
 *
 *   memory files COUNT
 *
 * Makes so many small files below /tmp/files: page cache, names and inodes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

#define PAGE 4096ul
#define HUGE (2ul << 20)

static void fail(const char* what) {
  fprintf(stderr, "memory: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void fill(uint64_t* at, size_t bytes, uint64_t seed) {
  for (size_t i = 0; i < bytes / sizeof(*at); i++) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    at[i] = seed ^ seed >> 29;
  }
}

static uint64_t page_number(int pagemap, const char* at) {
  uint64_t entry;

  if (pread(pagemap, &entry, sizeof(entry), (uintptr_t)at / PAGE * sizeof(entry)) != sizeof(entry))
    fail("/proc/self/pagemap");
  return entry >> 63 ? entry & ((1ull << 55) - 1) : 0;
}

static void print_pages(const char* kind, const char* start, size_t bytes) {
  int pagemap = open("/proc/self/pagemap", O_RDONLY);
  uint64_t first = 0, last = 0;

  if (pagemap < 0) fail("/proc/self/pagemap");
  for (size_t at = 0; at < bytes; at += PAGE) {
    uint64_t pfn = page_number(pagemap, start + at);

    if (!pfn) continue;
    if (first && pfn == last + 1) {
      last = pfn;
      continue;
    }
    if (first) printf("%s %llx-%llx\n", kind, (unsigned long long)first, (unsigned long long)last);
    first = last = pfn;
  }
  if (first) printf("%s %llx-%llx\n", kind, (unsigned long long)first, (unsigned long long)last);
  close(pagemap);
}

/* Memory of the kind, at its place; *bytes is rounded up to what the kind allows. */
static char* take(const char* kind, size_t* bytes) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS, fd = -1;
  size_t unit = PAGE;
  char* at;

  if (!strcmp(kind, "hugetlb") || !strcmp(kind, "gigantic")) {
    unsigned int shift = *kind == 'h' ? 21 : 30;

    unit = 1ul << shift;
    flags |= MAP_HUGETLB | (int)(shift << MAP_HUGE_SHIFT);
  } else if (!strcmp(kind, "thp") || !strcmp(kind, "shmem")) {
    unit = HUGE;
  }
  *bytes = (*bytes + unit - 1) / unit * unit;
  if (!strcmp(kind, "shmem")) {
    fd = open("/dev/shm/memory", O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)*bytes)) fail("/dev/shm/memory");
    flags = MAP_SHARED;
  }
  /* Aligned to the unit: twice the room, and the first place in it that is. */
  if (unit == HUGE && !(flags & MAP_HUGETLB)) {
    at = mmap(NULL, *bytes + unit, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) fail("mmap");
    at = (char*)(((uintptr_t)at + unit - 1) / unit * unit);
    at = mmap(at, *bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
  } else {
    at = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  }
  if (at == MAP_FAILED) fail(kind);
  if (!strcmp(kind, "thp") || !strcmp(kind, "shmem")) {
    if (madvise(at, *bytes, MADV_HUGEPAGE)) fail("MADV_HUGEPAGE");
  } else if (unit == PAGE) {
    madvise(at, *bytes, MADV_NOHUGEPAGE);
  }
  return at;
}

// Later kernels (6.12) signal who broke a page himself, too.
static void go_on(int number) {
  (void)number;
}

static void make(const char* kind, size_t bytes, int process) {
  char* at = take(kind, &bytes);
  int advice = !strcmp(kind, "poison") ? MADV_HWPOISON : MADV_SOFT_OFFLINE;

  signal(SIGBUS, go_on);
  fill((uint64_t*)at, bytes, (uint64_t)process * 1000003 + 1);
  if (!process) {
    print_pages(kind, at, bytes);
    fflush(stdout);
  }
  if ((!strcmp(kind, "poison") || !strcmp(kind, "soft-offline")) && madvise(at, bytes, advice))
    fail("madvise");
}

static void make_files(int count) {
  char name[64];

  if (mkdir("/tmp/files", 0755)) fail("/tmp/files");
  for (int i = 0; i < count; i++) {
    int fd, len = snprintf(name, sizeof(name), "/tmp/files/a-file-of-some-name-%d", i);

    fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd < 0 || write(fd, name, (size_t)len) != len) fail(name);
    close(fd);
  }
}

int main(int argc, char** argv) {
  int processes = argc > 3 ? atoi(argv[3]) : 1, ready[2];
  char byte;

  if (argc < 3 || argc > 4 || atoi(argv[2]) <= 0 || processes <= 0) {
    fprintf(stderr, "usage: memory KIND MIB [PROCESSES]\n");
    return 2;
  }
  if (!strcmp(argv[1], "files")) {
    make_files(atoi(argv[2]));
    return 0;
  }
  if (pipe(ready)) fail("pipe");
  for (int i = 0; i < processes; i++) {
    size_t bytes = (size_t)atoi(argv[2]) << 20;

    switch (fork()) {
      case -1:
        fail("fork");
        break;
      case 0:
        /* One page is enough to be broken. */
        if (strstr(argv[1], "poison") || strstr(argv[1], "offline")) bytes = PAGE;
        make(argv[1], bytes, i);
        if (write(ready[1], "", 1) != 1) fail("pipe");
        for (;;) pause();
    }
  }
  close(ready[1]);
  /* A child that fails closes its end: no byte of it comes. */
  for (int i = 0; i < processes; i++)
    if (read(ready[0], &byte, 1) != 1) return 1;
  return 0;
}
