// SPDX-License-Identifier: Apache-2.0
// Class 0: META and PRESENCE, and from them which blocks a dump has.
#ifndef DUMPCAST_RELAY_CLASS0_H_
#define DUMPCAST_RELAY_CLASS0_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "protos/wire/dumpcast_wire.h"
#include "store/block_set.h"

namespace dumpcast {

class Class0 {
 public:
  // `lane_mask`: lanes that this relay has joined.
  explicit Class0(uint64_t lane_mask);

  // One class 0 block, verified. Streams that say nothing about blocks are not looked into.
  // Harmless twice. An error says why the content cannot be used; it changes nothing.
  absl::Status Add(uint64_t number, std::string_view encoded);

  // Set once META is held. Fields as on the wire, little-endian.
  const std::optional<dcast_meta>& meta() const { return meta_; }
  uint32_t lanes() const { return lanes_; }  // 0 before META
  // A packet came on this lane, joined (multicast) or not (unicast brings all of them).
  void NoteLane(uint8_t lane);
  // Lanes of this dump that the sender's packets come on.
  uint64_t received_lanes() const { return lane_mask_ & AllLanes(); }
  uint64_t AllLanes() const { return lanes_ >= 64 ? ~uint64_t{0} : (uint64_t{1} << lanes_) - 1; }
  // Whether the sender can bring this block; every one before META.
  bool Received(uint8_t block_class, uint64_t number) const {
    return lanes_ == 0 || (lane_mask_ >> dcast_block_lane(block_class, number, lanes_) & 1) != 0;
  }
  // By the relays' verdict the host sends class 0 without PRESENCE, and no memory (WIRE.md, END);
  // or it does after all.
  void SetLogOnly(bool log_only);
  bool log_only() const { return log_only_; }
  // META and every slice of PRESENCE are here: `numbers` is all there is.
  bool known() const { return log_only_ ? meta_.has_value() : expected_.known(); }
  // Blocks named so far; of class 0 META alone before META came.
  const NumberSet& numbers(uint8_t block_class) const;
  // Of these, what the sender can bring.
  const NumberSet& received(uint8_t block_class) const;
  uint64_t blocks() const;

 private:
  bool ReceivesAll() const { return received_lanes() == AllLanes(); }
  void AddReceived(const Expectation& expected);

  Expectation expected_;
  uint64_t lane_mask_;
  // Of classes 1 and up; kept only while some lane is not received.
  std::array<NumberSet, DCAST_CLASSES> received_;
  NumberSet meta_alone_;
  bool log_only_ = false;
  NumberSet log_numbers_;  // of class 0, without PRESENCE; empty before META
  NumberSet none_;
  std::optional<dcast_meta> meta_;
  uint32_t lanes_ = 0;
};

}  // namespace dumpcast

#endif  // DUMPCAST_RELAY_CLASS0_H_
