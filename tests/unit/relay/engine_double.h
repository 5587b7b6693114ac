// SPDX-License-Identifier: Apache-2.0
// An engine with virtual time, a sender made by hand, and a store that does what it is told.
#ifndef DUMPCAST_TESTS_UNIT_RELAY_ENGINE_DOUBLE_H_
#define DUMPCAST_TESTS_UNIT_RELAY_ENGINE_DOUBLE_H_

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "relay/decode.h"
#include "relay/engine.h"
#include "tests/unit/relay/sender_double.h"

namespace dumpcast {

class EngineDouble {
 public:
  explicit EngineDouble(const EngineConfig& config = Config())
      : engine(
            config,
            [](const Id16&, uint16_t epoch) -> std::optional<dcast_keys> {
              if (epoch != SenderDouble::kEpoch) return std::nullopt;
              return SenderDouble::Keys();
            },
            [] { return uint64_t{0}; }) {}

  static EngineConfig Config() {
    EngineConfig config;
    config.relay_id = 42;
    config.silent_ns = 2 * kSecond;
    config.seal_ns = 3 * kSecond;
    return config;
  }

  void Receive(const std::string& packet) {
    engine.Receive(now, {packet, from, false});
    EXPECT_EQ(engine.CheckCounters(), "");
  }
  void Receive(const std::vector<std::string>& packets) {
    for (const std::string& packet : packets) Receive(packet);
  }
  // Does the store's work: every op answered with `status` of its kind.
  void Work() {
    for (std::vector<StoreOp> batch = engine.TakeStoreOps(now); !batch.empty();
         batch = engine.TakeStoreOps(now)) {
      for (StoreOp& op : batch) {
        absl::Status status = DecodeOps({&op, 1}).front();
        ops.push_back(op);
        if (const auto refused = refuse.find(op.kind); status.ok() && refused != refuse.end())
          status = refused->second;
        engine.StoreDone(now, op.id, status);
      }
    }
    for (Reply& reply : engine.TakeReplies()) replies.push_back(std::move(reply));
    for (PeerFetch& fetch : engine.TakePeerFetches()) fetches.push_back(std::move(fetch));
    for (Event& event : engine.TakeEvents()) events.push_back(std::move(event));
    EXPECT_EQ(engine.CheckCounters(), "");
  }
  // Time passes, with ticks and the store at work.
  void Run(TimeNs span) {
    for (const TimeNs end = now + span; now < end; now += 10 * kMillisecond) {
      engine.Tick(now);
      Work();
    }
  }
  size_t Ops(StoreOp::Kind kind) const {
    return static_cast<size_t>(
        std::count_if(ops.begin(), ops.end(), [kind](const auto& op) { return op.kind == kind; }));
  }
  size_t Events(Event::Kind kind) const {
    return static_cast<size_t>(std::count_if(events.begin(), events.end(),
                                             [kind](const auto& e) { return e.kind == kind; }));
  }
  size_t Replies(uint8_t type) const {
    return static_cast<size_t>(
        std::count_if(replies.begin(), replies.end(), [type](const Reply& reply) {
          dcast_hdr hdr;
          std::memcpy(&hdr, reply.payload.data(), sizeof(hdr));
          return hdr.type == type;
        }));
  }
  uint64_t Count(Counter counter) const { return engine.counters()[counter]; }
  Engine::DumpView View() const {
    const auto view = engine.GetDump(SenderDouble::Dump());
    EXPECT_TRUE(view);
    return view.value_or(Engine::DumpView{});
  }
  // A dump of `blocks` pages whole from the first packet to the seal.
  void ReceiveAll(unsigned blocks) {
    Receive(sender.Announce(DCAST_ST_DUMPING));
    Receive(sender.Class0(blocks));
    for (unsigned w = 0; w < blocks; ++w) Receive(sender.Symbols(1, w, SenderDouble::Page(w)));
    Receive(sender.End());
  }

  Engine engine;
  SenderDouble sender;
  TimeNs now = 100 * kSecond;
  Address from;
  std::map<StoreOp::Kind, absl::Status> refuse;
  std::vector<StoreOp> ops;
  std::vector<Reply> replies;
  std::vector<PeerFetch> fetches;
  std::vector<Event> events;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_UNIT_RELAY_ENGINE_DOUBLE_H_
