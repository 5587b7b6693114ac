// SPDX-License-Identifier: Apache-2.0
// Class 0: META and PRESENCE, and from them which blocks a dump has.
#ifndef DUMPCAST_RELAY_CLASS0_H_
#define DUMPCAST_RELAY_CLASS0_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "protos/wire/dumpcast_wire.h"
#include "store/block_set.h"

namespace dumpcast {

class Class0 {
 public:
  Class0();

  // One class 0 block, verified. Streams that say nothing about blocks are not looked into.
  // Harmless twice. An error says why the content cannot be used; it changes nothing.
  absl::Status Add(uint64_t number, std::string_view encoded);

  // Set once META is held. Fields as on the wire, little-endian.
  const std::optional<dcast_meta>& meta() const { return meta_; }
  uint32_t lanes() const { return lanes_; }  // 0 before META
  // META and every slice of PRESENCE are here: `numbers` is all there is.
  bool known() const { return expected_.known(); }
  // Blocks named so far; of class 0 META alone before META came.
  const NumberSet& numbers(uint8_t block_class) const;
  uint64_t blocks() const;

 private:
  Expectation expected_;
  NumberSet meta_alone_;
  std::optional<dcast_meta> meta_;
  uint32_t lanes_ = 0;
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_CLASS0_H_
