// SPDX-License-Identifier: Apache-2.0
// What the services say of dumps and hosts, put together from the store, the receiving side and
// replication.
#ifndef DUMPCAST_STORE_SERVICE_CATALOG_H_
#define DUMPCAST_STORE_SERVICE_CATALOG_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "dumpcast/v1/dumps.pb.h"
#include "dumpcast/v1/hosts.pb.h"
#include "store/holder_source.h"
#include "store/receive_status.h"
#include "store/service/views.h"
#include "store/store.h"

namespace dumpcast {

// What its last ANNOUNCE leaves a host in: armed, disarmed, or lost when three heartbeats have
// failed to come. One that dumps is not told apart.
v1::HostState StateOf(const v1::HostRecord& record, int64_t now_unix_ns);

struct CatalogOptions {
  Store* store = nullptr;
  const ReceiveStatusSource* receive_status = nullptr;  // may be null
  const HolderSource* holders = nullptr;                // may be null
  std::string relay_name;
  std::function<int64_t()> now_unix_ns;
};

// Thread safety: all methods may be called from any thread.
class Catalog {
 public:
  explicit Catalog(CatalogOptions options)
      : options_(std::move(options)), views_(options_.store), blocks_(options_.store) {}

  // The dump as this relay knows it now. NOT_FOUND when it was deleted meanwhile.
  absl::StatusOr<v1::Dump> Describe(const v1::DumpRecord& record);
  v1::Host Describe(const v1::HostRecord& record, const v1::DumpRecord* newest_dump) const;

  ViewCache& views() { return views_; }
  BlockCache& blocks() { return blocks_; }
  // Empties both.
  void ForgetViews() {
    views_.Clear();
    blocks_.Clear();
  }
  const CatalogOptions& options() const { return options_; }

 private:
  struct Sizes {
    uint64_t keys = 0;
    uint64_t key_sum = 0;
    uint64_t elf_bytes = 0;
    uint64_t kdump_bytes = 0;
    uint64_t memory_bytes = 0;
    uint64_t unreadable_pages = 0;
  };

  void AddMeta(const DumpKey& dump, v1::Dump* out) const;
  void AddHolders(const DumpKey& dump, const DumpBlocks& blocks, v1::Dump* out) const;
  void AddSizes(const DumpKey& dump, uint64_t keys, uint64_t key_sum, v1::Dump* out);

  const CatalogOptions options_;
  ViewCache views_;
  BlockCache blocks_;
  absl::Mutex mu_;
  absl::flat_hash_map<DumpKey, Sizes> sizes_ ABSL_GUARDED_BY(mu_);  // of the block set seen last
};

}  // namespace dumpcast

#endif  // DUMPCAST_STORE_SERVICE_CATALOG_H_
