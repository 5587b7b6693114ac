// SPDX-License-Identifier: Apache-2.0
#include "relay/repair.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace dumpcast {
namespace {

constexpr double kBurst = 16;                     // NAK packets at once
constexpr TimeNs kAnswering = 50 * kMillisecond;  // newer repeats: the sender works on NAKs
constexpr uint8_t kMaxPostponed = 20;
constexpr size_t kMaxFetchBlocks = 1024;   // at most 64 MiB in one answer
constexpr size_t kMaxFetchSymbols = 8192;  // at most 16 MiB are given

BlockName NameOf(const dcast_nak_entry& entry, uint64_t i) {
  return {entry.block_class, dcast_le64(entry.number) + i};
}

}  // namespace

Repair::Repair(const EngineConfig& config, Counters* counters,
               const std::function<uint64_t()>* random)
    : config_(config), counters_(counters), random_(random) {}

TimeNs Repair::Backoff(uint8_t tries) {
  TimeNs delay = config_.repair_first_ns;
  for (uint8_t i = 1; i < tries && delay < config_.repair_max_ns; ++i) delay *= 2;
  delay = std::min(delay, config_.repair_max_ns);
  return delay / 2 + Jitter(delay);
}

bool Repair::TakeToken(TimeNs now) {
  if (tokens_ns_ == 0) {
    tokens_ = kBurst;
  } else {
    const double seconds = static_cast<double>(now - tokens_ns_) / kSecond;
    tokens_ = std::min(kBurst, tokens_ + seconds * config_.naks_per_second);
  }
  tokens_ns_ = now;
  if (tokens_ < 1) return false;
  tokens_ -= 1;
  return true;
}

Repair::Requests Repair::Step(TimeNs now, const std::vector<BlockName>& missing,
                              const Class0& class0, const Assembler& assembler, bool has_peers,
                              bool sender_there) {
  Requests requests;
  ++round_;
  wake_ns_ = kNever;
  std::vector<dcast_nak_entry> entries;
  bool out_of_tokens = false;
  const size_t max_entries =
      std::max<size_t>(1, (config_.nak_bytes - std::min<uint32_t>(config_.nak_bytes, 104)) /
                              sizeof(dcast_nak_entry));
  const auto send_entries = [&] {
    if (!entries.empty()) requests.naks.push_back(std::exchange(entries, {}));
  };
  size_t fetch_blocks = 0, fetch_symbols = 0;

  for (const BlockName& name : missing) {
    const auto [it, fresh] = asks_.try_emplace(name);
    Ask& ask = it->second;
    ask.round = round_;
    if (fresh) {
      if (assembler.Find(name)) ++lacking_;
      ask.stage = has_peers ? Stage::kPeers : Stage::kNak;
      // Relays that lost the same packets would ask in the same instant.
      ask.next_ns = has_peers ? now : now + Jitter(config_.suppress_ns / 2);
    }
    if (ask.stage == Stage::kAskedPeers) continue;
    if (ask.stage == Stage::kPeers && !has_peers) ask.stage = Stage::kNak;
    if (ask.stage == Stage::kNak &&
        !(sender_there && class0.Received(name.block_class, name.number))) {
      if (!has_peers) continue;
      ask.stage = Stage::kPeers;
    }
    if (now < ask.next_ns) {
      wake_ns_ = std::min(wake_ns_, ask.next_ns);
      continue;
    }
    if (ask.stage == Stage::kPeers) {
      if (fetch_open_ || now < fetch_next_ns_ || fetch_blocks >= kMaxFetchBlocks ||
          fetch_symbols >= kMaxFetchSymbols) {
        if (!fetch_open_) wake_ns_ = std::min(wake_ns_, std::max(now + 1, fetch_next_ns_));
        continue;
      }
      ++fetch_blocks;
      ask.stage = Stage::kAskedPeers;
      const auto partial = assembler.Find(name);
      ask.whole = !partial || partial->changing || !ask.whole;
      if (!ask.whole) {
        const auto lacking = static_cast<uint32_t>(partial->k - std::popcount(partial->have));
        fetch_symbols += lacking;
        requests.symbols.push_back({{name.block_class, name.number, partial->digest},
                                    partial->symbol_size,
                                    ~partial->have,
                                    lacking,
                                    {}});
        continue;
      }
      if (!requests.fetch.empty() && requests.fetch.back().block_class == name.block_class &&
          requests.fetch.back().first + requests.fetch.back().count == name.number) {
        ++requests.fetch.back().count;
      } else {
        requests.fetch.push_back({name.block_class, name.number, 1});
      }
      continue;
    }
    if (now < repeat_ns_ + kAnswering && ask.tries > 0 && ask.postponed < kMaxPostponed) {
      ++ask.postponed;
      ask.next_ns = now + kAnswering + Jitter(kAnswering);
      wake_ns_ = std::min(wake_ns_, ask.next_ns);
      continue;
    }
    if (out_of_tokens) continue;
    const auto partial = assembler.Find(name);
    const bool joins =
        !partial && !entries.empty() && entries.back().flags == 0 &&
        entries.back().block_class == name.block_class &&
        dcast_le64(entries.back().number) + dcast_le32(entries.back().count) == name.number;
    if (!joins && entries.size() == max_entries) send_entries();
    if (entries.empty() && !TakeToken(now)) {
      out_of_tokens = true;
      wake_ns_ = std::min(wake_ns_, now + kSecond / std::max(1u, config_.naks_per_second));
      continue;
    }
    if (joins) {
      entries.back().count = dcast_to_le32(dcast_le32(entries.back().count) + 1);
    } else {
      dcast_nak_entry entry{};
      entry.number = dcast_to_le64(name.number);
      entry.count = dcast_to_le32(1);
      entry.block_class = name.block_class;
      if (partial) {
        entry.flags = DCAST_NAK_HAS_DIGEST;
        entry.digest = dcast_to_le64(partial->digest);
        entry.mask = dcast_to_le64(partial->wanted());
      }
      entries.push_back(entry);
    }
    counters_->Add(Counter::kNakBlocks);
    if (ask.tries > 0) ++asked_again_;
    ask.tries = static_cast<uint8_t>(std::min(ask.tries + 1, 100));
    ask.postponed = 0;
    ask.next_ns = now + Backoff(ask.tries);
    // By then a peer may have it.
    if (has_peers) ask.stage = Stage::kPeers;
    wake_ns_ = std::min(wake_ns_, ask.next_ns);
  }
  send_entries();
  if (!requests.fetch.empty() || !requests.symbols.empty()) {
    fetch_open_ = true;
    counters_->Add(Counter::kPeerFetches);
  }
  absl::erase_if(asks_, [this](const auto& ask) {
    return ask.second.round != round_ && ask.second.stage != Stage::kAskedPeers;
  });
  return requests;
}

void Repair::NoteFetched(TimeNs now, bool more) {
  fetch_open_ = false;
  ++fruitless_;
  fetch_next_ns_ = more ? now : now + Backoff(static_cast<uint8_t>(std::min(fruitless_, 8u))) / 4;
  for (auto& [name, ask] : asks_) {
    if (ask.stage != Stage::kAskedPeers) continue;
    ask.stage = Stage::kNak;
    ask.next_ns = now + Jitter(config_.suppress_ns / 2);
  }
}

void Repair::Suppress(TimeNs now, Ask& ask) {
  const TimeNs until = now + config_.suppress_ns + Jitter(config_.suppress_ns / 2);
  if (ask.stage != Stage::kNak || ask.next_ns >= until) return;
  ask.next_ns = until;
  counters_->Add(Counter::kNakSuppressed);
}

void Repair::NoteOtherNak(TimeNs now, const dcast_nak_entry& entry, const Assembler& assembler) {
  const uint64_t count = dcast_le32(entry.count);
  if ((entry.flags & DCAST_NAK_HAS_DIGEST) == 0) {
    if (count <= asks_.size()) {
      for (uint64_t i = 0; i < count; ++i)
        if (const auto it = asks_.find(NameOf(entry, i)); it != asks_.end())
          Suppress(now, it->second);
    } else {
      const uint64_t first = dcast_le64(entry.number);
      for (auto& [name, ask] : asks_)
        if (name.block_class == entry.block_class && name.number - first < count)
          Suppress(now, ask);
    }
    return;
  }
  const auto it = asks_.find(NameOf(entry, 0));
  if (it == asks_.end()) return;
  // Its answer serves us when it brings as many symbols as we lack, of the same encoding.
  const auto partial = assembler.Find(it->first);
  if (!partial || partial->digest != dcast_le64(entry.digest)) return;
  const int lacking = partial->k - std::popcount(partial->have);
  if (std::popcount(dcast_le64(entry.mask) & ~partial->have) >= lacking) Suppress(now, it->second);
}

}  // namespace dumpcast
