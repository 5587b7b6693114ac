// SPDX-License-Identifier: Apache-2.0
// A file in memory for parsers that want a path.
#ifndef DUMPCAST_TESTS_FUZZ_MEMORY_FILE_H_
#define DUMPCAST_TESTS_FUZZ_MEMORY_FILE_H_

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace dumpcast {

class MemoryFile {
 public:
  MemoryFile(const uint8_t* data, size_t size) : fd_(memfd_create("input", 0)) {
    if (fd_ < 0 || write(fd_, data, size) != static_cast<ssize_t>(size)) __builtin_trap();
  }
  ~MemoryFile() { close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  const int fd_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_FUZZ_MEMORY_FILE_H_
