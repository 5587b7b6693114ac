// SPDX-License-Identifier: Apache-2.0
// META and PRESENCE as a host sends them: what a dump is then expected to have.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "store/block_set.h"

// Input: chunks, each a number (8 bytes), a length (2 bytes, little-endian) and so many bytes.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  dumpcast::Expectation expected;
  dumpcast::BlockSet held;
  while (size >= 10) {
    uint64_t number = 0;
    uint16_t length = 0;
    memcpy(&number, data, sizeof(number));
    memcpy(&length, data + 8, sizeof(length));
    data += 10;
    size -= 10;
    const size_t take = length < size ? length : size;
    (void)expected.AddChunk(number, {reinterpret_cast<const char*>(data), take});
    held.Add({0, number, 1}, take);
    data += take;
    size -= take;
  }
  (void)expected.known();
  (void)dumpcast::IsComplete(expected, held);
  (void)dumpcast::MissingBlocks(expected, held, 1000);
  (void)expected.missing_slices();
  return 0;
}
