// SPDX-License-Identifier: Apache-2.0
// The keys of one dump in order: those in the index on disk, and those that wait for a flush.
#ifndef DUMPCAST_STORE_ROCKS_INDEX_H_
#define DUMPCAST_STORE_ROCKS_INDEX_H_

#include <rocksdb/db.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "store/ids.h"
#include "store/rocks_format.h"

namespace dumpcast::rocks {

// Keys that are in no index yet, with the index values that they will have.
using BufferedKeys = std::map<BlockKey, std::string>;

// Walks both in ascending order, a key that is in both once.
//
// Thread safety: none. `buffered` must outlive it.
class KeyScan {
 public:
  KeyScan(std::unique_ptr<rocksdb::Iterator> index, const DumpKey& dump,
          const BufferedKeys* buffered)
      : index_(std::move(index)), dump_(dump), buffered_(buffered), next_(buffered->end()) {}

  // Goes to the first key that is not less than `key`. Cheap when that is the present one or one of
  // the next few.
  void SeekTo(const BlockKey& key);
  void Next();
  bool Valid() const { return on_index_ || next_ != buffered_->end(); }
  // REQUIRES: Valid().
  const BlockKey& key() const;
  std::string_view value() const;
  // Why the index ended; OK at its real end. DATA_LOSS for a malformed entry.
  absl::Status status() const;

 private:
  void ReadIndex();
  bool BufferedFirst() const;

  std::unique_ptr<rocksdb::Iterator> index_;
  const DumpKey dump_;
  const BufferedKeys* const buffered_;
  BufferedKeys::const_iterator next_;
  BlockKey index_key_;
  bool on_index_ = false;  // index_ is at index_key_, a key of the dump
  bool malformed_ = false;
};

// Steps or seeks an iterator over block keys to the first that is not less than `target`.
void Advance(rocksdb::Iterator* it, const std::string& target);

}  // namespace dumpcast::rocks

#endif  // DUMPCAST_STORE_ROCKS_INDEX_H_
