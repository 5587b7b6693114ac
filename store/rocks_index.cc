// SPDX-License-Identifier: Apache-2.0
#include "store/rocks_index.h"

#include <optional>

namespace dumpcast::rocks {
namespace {

// Up to so many keys further on, stepping is cheaper than searching.
constexpr int kMaxSteps = 4;

}  // namespace

void Advance(rocksdb::Iterator* it, const std::string& target) {
  if (!it->Valid() || it->key().compare(target) > 0) {
    it->Seek(target);
    return;
  }
  for (int steps = 0; it->Valid() && it->key().compare(target) < 0; steps++) {
    if (steps == kMaxSteps) {
      it->Seek(target);
      return;
    }
    it->Next();
  }
}

void KeyScan::ReadIndex() {
  on_index_ = false;
  if (malformed_ || !index_->Valid()) return;
  const std::string_view bytes(index_->key().data(), index_->key().size());
  if (!bytes.starts_with(DumpPrefix(dump_))) return;
  const std::optional<BlockKey> key = DecodeBlockKey(bytes);
  if (!key || !DecodeIndexValue({index_->value().data(), index_->value().size()})) {
    malformed_ = true;
    return;
  }
  index_key_ = *key;
  on_index_ = true;
}

void KeyScan::SeekTo(const BlockKey& key) {
  Advance(index_.get(), EncodeBlockKey(dump_, key));
  ReadIndex();
  next_ = buffered_->lower_bound(key);
}

bool KeyScan::BufferedFirst() const {
  return next_ != buffered_->end() && (!on_index_ || next_->first < index_key_);
}

void KeyScan::Next() {
  if (BufferedFirst()) {
    ++next_;
    return;
  }
  if (next_ != buffered_->end() && next_->first == index_key_) ++next_;
  index_->Next();
  ReadIndex();
}

const BlockKey& KeyScan::key() const {
  return BufferedFirst() ? next_->first : index_key_;
}

std::string_view KeyScan::value() const {
  if (BufferedFirst()) return next_->second;
  return {index_->value().data(), index_->value().size()};
}

absl::Status KeyScan::status() const {
  if (malformed_) return absl::DataLossError("the store's index has an entry that is none");
  return ToAbsl(index_->status(), "cannot read the store's index");
}

}  // namespace dumpcast::rocks
