// SPDX-License-Identifier: Apache-2.0
#ifndef DUMPCAST_PROTOS_KEYS_SECRET_H_
#define DUMPCAST_PROTOS_KEYS_SECRET_H_

#include <sodium.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace dumpcast {

// N bytes that are wiped when they end. Copies are wiped on their own. Thread safety: as a value.
template <size_t N>
class Secret {
 public:
  Secret() = default;
  Secret(const Secret&) = default;
  Secret& operator=(const Secret&) = default;
  ~Secret() { sodium_memzero(bytes_.data(), N); }

  uint8_t* data() { return bytes_.data(); }
  const uint8_t* data() const { return bytes_.data(); }
  uint8_t& operator[](size_t i) { return bytes_[i]; }
  uint8_t operator[](size_t i) const { return bytes_[i]; }
  static constexpr size_t size() { return N; }
  void fill(uint8_t byte) { bytes_.fill(byte); }
  bool operator==(const Secret&) const = default;

 private:
  std::array<uint8_t, N> bytes_{};
};

}  // namespace dumpcast

#endif  // DUMPCAST_PROTOS_KEYS_SECRET_H_
