// SPDX-License-Identifier: Apache-2.0
// The vmcore views that readers use, kept for a while so that each call does not make them anew.
#ifndef DUMPCAST_STORE_SERVICE_VIEWS_H_
#define DUMPCAST_STORE_SERVICE_VIEWS_H_

#include <cstdint>
#include <list>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "dumpcast/v1/dumps.pb.h"
#include "store/store.h"
#include "store/vmcore/file_view.h"
#include "store/vmcore/memory_view.h"

namespace dumpcast {

// One dump at one moment. Views pin that moment: they do not change while blocks arrive.
//
// Thread safety: all methods may be called from any thread.
class DumpViews {
 public:
  DumpViews(OpenedBlocks blocks, std::shared_ptr<const MemoryView> memory)
      : blocks_(std::move(blocks)), memory_(std::move(memory)) {}

  const MemoryView& memory() const { return *memory_; }
  // The file in a format; made at the first call. FAILED_PRECONDITION while the memory map is
  // missing.
  absl::StatusOr<std::shared_ptr<const FileView>> File(v1::DumpFormat format);
  // Names the block set alone.
  std::string etag() const { return Etag(blocks_.keys, blocks_.key_sum); }
  bool SameBlocks(uint64_t keys, uint64_t key_sum) const {
    return blocks_.keys == keys && blocks_.key_sum == key_sum;
  }

  static std::string Etag(uint64_t keys, uint64_t key_sum);
  // Names block set and format, as ReadDump gives it.
  static std::string FileEtag(const std::string& etag, v1::DumpFormat format);

 private:
  const OpenedBlocks blocks_;
  const std::shared_ptr<const MemoryView> memory_;
  absl::Mutex mu_;
  std::shared_ptr<const FileView> elf_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<const FileView> kdump_ ABSL_GUARDED_BY(mu_);
};

// The views used last, by dump and block set; not those that met damage, since healing changes no
// block set.
//
// Thread safety: all methods may be called from any thread.
class ViewCache {
 public:
  explicit ViewCache(const Store* store) : store_(store) {}

  // Views of what is held now.
  // NOT_FOUND while META is missing, DATA_LOSS when it is malformed, FAILED_PRECONDITION when the
  // dump is encrypted; errors of the store.
  absl::StatusOr<std::shared_ptr<DumpViews>> Open(const DumpKey& dump);
  // Forgets all: views keep the store from giving back what is deleted after them, of any dump.
  // Readers that have some keep them until they end.
  void Clear();

 private:
  struct Entry {
    DumpKey dump;
    std::shared_ptr<DumpViews> views;
  };

  const Store* const store_;
  absl::Mutex mu_;
  std::list<Entry> entries_ ABSL_GUARDED_BY(mu_);  // used last first
};

// The blocks that readers of blocks use, by dump and block set: whoever reads on finds the set that
// they began with, while others of the dump are arriving.
//
// Thread safety: all methods may be called from any thread.
class BlockCache {
 public:
  explicit BlockCache(const Store* store) : store_(store) {}

  // The set that `etag` (DumpViews::Etag()) names, or what is held now when it is empty.
  // ABORTED when that set is neither kept nor the present one; errors of the store.
  absl::StatusOr<std::shared_ptr<const OpenedBlocks>> Open(const DumpKey& dump,
                                                           const std::string& etag);
  // As ViewCache::Clear().
  void Clear();

 private:
  struct Entry {
    DumpKey dump;
    std::string etag;
    std::shared_ptr<const OpenedBlocks> blocks;
  };

  const Store* const store_;
  absl::Mutex mu_;
  std::list<Entry> entries_ ABSL_GUARDED_BY(mu_);  // used last first
};

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_SERVICE_VIEWS_H_
