// SPDX-License-Identifier: Apache-2.0
#include "relay/assemble.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace dumpcast {
namespace {

// Book-keeping of one encoding, so that many tiny blocks are bounded as well.
constexpr uint64_t kEncodingOverheadBytes = 256;
// An encoding that got none of the last symbols is not on its way: a sender sends up to 16 blocks
// by turns, and a dump may have more than one.
constexpr uint64_t kOnTheWaySymbols = 128;

uint64_t LowBits(unsigned n) {
  return n >= 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1;
}

}  // namespace

uint64_t Assembler::Partial::wanted() const {
  int need = k - std::popcount(have);
  if (changing) need = 2 * need + 2;
  uint64_t wanted = 0;
  for (uint64_t rest : {~have & ~LowBits(k + m), ~have & LowBits(k + m)}) {
    for (; need > 0 && rest != 0; --need, rest &= rest - 1) wanted |= rest & -rest;
  }
  return wanted;
}

Assembler::Assembler(AssemblyBudget* budget, Counters* counters)
    : budget_(budget), counters_(counters) {
  budget_->assemblers_.push_back(this);
}

Assembler::~Assembler() {
  while (!encodings_.empty()) Remove(encodings_.begin(), Counter::kForgotten);
  std::erase(budget_->assemblers_, this);
}

unsigned Assembler::Erase(Encodings::iterator encoding) {
  const unsigned symbols = std::popcount(encoding->have);
  budget_->used_ -= encoding->bytes;
  used_ -= encoding->bytes;
  const BlockName name{encoding->key.block_class, encoding->key.number};
  const auto it = by_name_.find(name);
  std::erase(it->second, encoding);
  if (it->second.empty()) by_name_.erase(it);
  encodings_.erase(encoding);
  return symbols;
}

void Assembler::Remove(Encodings::iterator encoding, Counter why) {
  const unsigned symbols = Erase(encoding);
  counters_->Add(why, symbols);
  budget_->waiting_symbols_ -= symbols;
}

Assembler::Encodings::iterator Assembler::Victim(const Encoding* keep) {
  for (auto it = by_name_.rbegin(); it != by_name_.rend(); ++it)
    for (const auto& encoding : it->second)
      if (encoding->last_symbol + kOnTheWaySymbols < symbols_ && &*encoding != keep)
        return encoding;
  auto oldest = encodings_.begin();
  if (oldest != encodings_.end() && &*oldest == keep) ++oldest;
  return oldest;
}

bool Assembler::MakeRoom(uint64_t bytes, const Encoding* keep) {
  const auto evict = [keep](Assembler* from) {
    const auto victim = from->Victim(keep);
    if (victim == from->encodings_.end()) return false;
    from->counters_->Add(Counter::kBlocksEvicted);
    from->Remove(victim, Counter::kEvicted);
    return true;
  };
  while (used_ + bytes > budget_->dump_bytes_)
    if (!evict(this)) return false;
  while (budget_->used_ + bytes > budget_->total_bytes_) {
    Assembler* const most = *std::max_element(
        budget_->assemblers_.begin(), budget_->assemblers_.end(),
        [](const Assembler* a, const Assembler* b) { return a->used_ < b->used_; });
    if (!evict(most)) return false;
  }
  return true;
}

Counter Assembler::Add(TimeNs now, const dcast_hdr& hdr, std::string_view payload,
                       const dcast_keys& keys, std::optional<Block>* block) {
  const auto count = [this](Counter outcome) {
    counters_->Add(outcome);
    return outcome;
  };
  const BlockName name{hdr.block_class, dcast_le64(hdr.number)};
  const uint64_t digest = dcast_le64(hdr.digest);
  const uint32_t encoded_len = dcast_le32(hdr.encoded_len);
  const uint16_t symbol_size = dcast_le16(hdr.symbol_size);
  const bool is_data = hdr.index < hdr.k;
  // Data symbols have their room from the start; a parity symbol takes more.
  const uint64_t data_bytes = uint64_t{hdr.k} * symbol_size;
  const uint64_t parity_bytes = is_data ? 0 : payload.size();

  Encodings::iterator encoding = encodings_.end();
  if (const auto it = by_name_.find(name); it != by_name_.end())
    for (const auto& candidate : it->second)
      if (candidate->key.digest == digest) encoding = candidate;

  if (encoding == encodings_.end()) {
    const uint64_t bytes = data_bytes + parity_bytes + kEncodingOverheadBytes;
    if (!MakeRoom(bytes, nullptr)) return count(Counter::kMemory);
    Encoding fresh;
    fresh.key = {name.block_class, name.number, digest};
    fresh.encoded_len = encoded_len;
    fresh.symbol_size = symbol_size;
    fresh.k = hdr.k;
    fresh.bytes = bytes;
    fresh.data.reserve(data_bytes);
    encodings_.push_back(std::move(fresh));
    encoding = std::prev(encodings_.end());
    used_ += bytes;
    budget_->used_ += bytes;
    auto& encodings = by_name_[name];
    encodings.push_back(encoding);
    if (encodings.size() > kMaxEncodings) Remove(encodings.front(), Counter::kStale);
  } else {
    if (encoding->encoded_len != encoded_len || encoding->symbol_size != symbol_size)
      return count(Counter::kMismatch);
    if (encoding->have >> hdr.index & 1) return count(Counter::kDuplicate);
    if (parity_bytes != 0) {
      if (!MakeRoom(parity_bytes, &*encoding)) return count(Counter::kMemory);
      encoding->bytes += parity_bytes;
      used_ += parity_bytes;
      budget_->used_ += parity_bytes;
    }
  }

  encoding->m = std::max(encoding->m, hdr.m);
  encoding->have |= uint64_t{1} << hdr.index;
  encoding->last_ns = now;
  encoding->last_symbol = ++symbols_;
  ++budget_->waiting_symbols_;
  if (is_data) {
    // They mostly come in order, and are then written once.
    std::string& data = encoding->data;
    const size_t at = size_t{hdr.index} * symbol_size;
    if (data.size() < at) data.resize(at);
    if (data.size() == at) {
      data.append(payload);
    } else {
      std::memcpy(data.data() + at, payload.data(), payload.size());
    }
  } else {
    encoding->parity.push_back({hdr.index, std::string(payload)});
  }
  if (std::popcount(encoding->have) >= encoding->k) *block = Finish(encoding, keys);
  return count(Counter::kStored);
}

Assembler::Block Assembler::Finish(Encodings::iterator encoding, const dcast_keys& keys) {
  Encoding& e = *encoding;
  e.data.resize(size_t{e.k} * e.symbol_size);
  Block block{e.key,
              std::move(e.data),
              {e.encoded_len, e.symbol_size, e.k, e.have, std::move(e.parity), keys}};
  Erase(encoding);
  Drop({block.key.block_class, block.key.number});
  return block;
}

void Assembler::Drop(const BlockName& name) {
  for (auto it = by_name_.find(name); it != by_name_.end(); it = by_name_.find(name))
    Remove(it->second.front(), Counter::kStale);
}

std::optional<Assembler::Partial> Assembler::Find(const BlockName& name) const {
  const auto it = by_name_.find(name);
  if (it == by_name_.end()) return std::nullopt;
  TimeNs last_ns = 0;
  for (const auto& encoding : it->second) last_ns = std::max(last_ns, encoding->last_ns);
  const Encoding& newest = *it->second.back();
  return Partial{newest.key.digest, newest.have, newest.symbol_size,   newest.k,
                 newest.m,          last_ns,     it->second.size() > 1};
}

const Assembler::Encoding* Assembler::FindEncoding(const BlockKey& key) const {
  const auto it = by_name_.find({key.block_class, key.number});
  if (it == by_name_.end()) return nullptr;
  for (const auto& encoding : it->second)
    if (encoding->key == key) return &*encoding;
  return nullptr;
}

std::optional<dcast_hdr> Assembler::HeaderOf(const BlockKey& key) const {
  const Encoding* encoding = FindEncoding(key);
  if (encoding == nullptr) return std::nullopt;
  dcast_hdr hdr{};
  hdr.type = DCAST_SYMBOL;
  hdr.number = dcast_to_le64(key.number);
  hdr.digest = dcast_to_le64(key.digest);
  hdr.encoded_len = dcast_to_le32(encoding->encoded_len);
  hdr.symbol_size = dcast_to_le16(encoding->symbol_size);
  hdr.block_class = key.block_class;
  hdr.k = encoding->k;
  hdr.m = encoding->m;
  return hdr;
}

bool Assembler::FindSymbols(BlockSymbols* symbols) const {
  const Encoding* encoding = FindEncoding(symbols->key);
  if (encoding == nullptr || encoding->symbol_size != symbols->symbol_size) return false;
  uint64_t given = 0;
  uint64_t left = symbols->mask & encoding->have;
  for (; left != 0 && symbols->count > 0; left &= left - 1, --symbols->count) {
    const auto index = static_cast<unsigned>(std::countr_zero(left));
    given |= left & -left;
    if (index < encoding->k) {
      symbols->bytes.append(
          encoding->data, size_t{index} * encoding->symbol_size,
          dcast_symbol_len(encoding->encoded_len, encoding->symbol_size, encoding->k, index));
    } else {
      symbols->bytes += std::find_if(encoding->parity.begin(), encoding->parity.end(),
                                     [index](const ParitySymbol& p) { return p.index == index; })
                            ->bytes;
    }
  }
  if (given == 0) return false;
  symbols->mask = given;
  symbols->count = 0;
  return true;
}

std::vector<BlockName> Assembler::Quiet(TimeNs before, size_t limit) const {
  std::vector<BlockName> quiet;
  for (const Encoding& e : encodings_) {
    if (quiet.size() >= limit) break;
    if (e.last_ns < before) quiet.push_back({e.key.block_class, e.key.number});
  }
  return quiet;
}

}  // namespace dumpcast
