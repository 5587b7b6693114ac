// SPDX-License-Identifier: Apache-2.0
#include "store/service/views.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "store/vmcore/elf_view.h"
#include "store/vmcore/kdump_view.h"

namespace dumpcast {
namespace {

constexpr size_t kKeptViews = 8;
constexpr size_t kKeptBlocks = 8;

absl::StatusOr<std::string> PresentEtag(const Store& store, const DumpKey& dump) {
  std::string etag;
  absl::Status status = store.ReadBlockSets(dump, [&](const DumpBlocks& blocks) {
    etag = DumpViews::Etag(blocks.held.keys(), blocks.held.key_sum());
  });
  if (!status.ok()) return status;
  return etag;
}

}  // namespace

std::string DumpViews::Etag(uint64_t keys, uint64_t key_sum) {
  return absl::StrFormat("%016x-%x", key_sum, keys);
}

std::string DumpViews::FileEtag(const std::string& etag, v1::DumpFormat format) {
  return absl::StrCat(etag, format == v1::DUMP_FORMAT_KDUMP ? "-kdump" : "-elf");
}

absl::StatusOr<std::shared_ptr<const FileView>> DumpViews::File(v1::DumpFormat format) {
  absl::MutexLock lock(&mu_);
  std::shared_ptr<const FileView>& file = format == v1::DUMP_FORMAT_KDUMP ? kdump_ : elf_;
  if (file == nullptr) {
    absl::StatusOr<std::unique_ptr<FileView>> made =
        format == v1::DUMP_FORMAT_KDUMP ? MakeKdumpView(memory_) : MakeElfView(memory_);
    if (!made.ok()) return made.status();
    file = *std::move(made);
  }
  return file;
}

absl::StatusOr<std::shared_ptr<DumpViews>> ViewCache::Open(const DumpKey& dump) {
  uint64_t keys = 0;
  uint64_t key_sum = 0;
  absl::Status status = store_->ReadBlockSets(dump, [&](const DumpBlocks& blocks) {
    keys = blocks.held.keys();
    key_sum = blocks.held.key_sum();
  });
  if (!status.ok()) return status;
  {
    absl::MutexLock lock(&mu_);
    for (auto it = entries_.begin(); it != entries_.end(); ++it) {
      if (it->dump != dump || !it->views->SameBlocks(keys, key_sum)) continue;
      entries_.splice(entries_.begin(), entries_, it);
      return entries_.front().views;
    }
  }
  absl::StatusOr<OpenedBlocks> blocks = store_->OpenBlocks(dump);
  if (!blocks.ok()) return blocks.status();
  absl::StatusOr<std::shared_ptr<const MemoryView>> memory = MemoryView::Open(blocks->source);
  if (!memory.ok()) return memory.status();
  const bool damaged = (*memory)->meta().damaged();
  auto views = std::make_shared<DumpViews>(*std::move(blocks), *std::move(memory));
  if (damaged) return views;  // once peers have healed it, the block set is the same
  absl::MutexLock lock(&mu_);
  // What a dump was before is of no use to anyone who asks from now on.
  entries_.remove_if([&](const Entry& entry) { return entry.dump == dump; });
  entries_.push_front({dump, views});
  if (entries_.size() > kKeptViews) entries_.pop_back();
  return views;
}

void ViewCache::Clear() {
  std::list<Entry> dropped;  // ends after the lock
  absl::MutexLock lock(&mu_);
  dropped.swap(entries_);
}

absl::StatusOr<std::shared_ptr<const OpenedBlocks>> BlockCache::Open(const DumpKey& dump,
                                                                     const std::string& etag) {
  const absl::StatusOr<std::string> present = PresentEtag(*store_, dump);
  if (!present.ok()) return present.status();
  const std::string& wanted = etag.empty() ? *present : etag;
  {
    absl::MutexLock lock(&mu_);
    for (auto it = entries_.begin(); it != entries_.end(); ++it) {
      if (it->dump != dump || it->etag != wanted) continue;
      entries_.splice(entries_.begin(), entries_, it);
      return entries_.front().blocks;
    }
  }
  absl::StatusOr<OpenedBlocks> opened = store_->OpenBlocks(dump);
  if (!opened.ok()) return opened.status();
  const std::string now = DumpViews::Etag(opened->keys, opened->key_sum);
  if (!etag.empty() && etag != now) {
    return absl::AbortedError(absl::StrCat("the block set has changed since (etag \"", etag,
                                           "\", now \"", now,
                                           "\"): blocks arrived; read again from the beginning"));
  }
  auto blocks = std::make_shared<const OpenedBlocks>(*std::move(opened));
  absl::MutexLock lock(&mu_);
  entries_.push_front({dump, now, blocks});
  if (entries_.size() > kKeptBlocks) entries_.pop_back();
  return blocks;
}

void BlockCache::Clear() {
  std::list<Entry> dropped;  // ends after the lock
  absl::MutexLock lock(&mu_);
  dropped.swap(entries_);
}

}  // namespace dumpcast
