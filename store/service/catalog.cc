// SPDX-License-Identifier: Apache-2.0
#include "store/service/catalog.h"

#include <bit>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "store/vmcore/block_codec.h"
#include "store/vmcore/dump_meta.h"

namespace dumpcast {
namespace {

// A dump of more blocks than this (8 GiB and up) is not measured anew at each step of its arrival.
constexpr uint64_t kMeasuredWhileReceiving = 1 << 17;
constexpr size_t kKeptSizes = 65536;

void SetTime(int64_t unix_ns, google::protobuf::Timestamp* time) {
  time->set_seconds(unix_ns / 1'000'000'000);
  time->set_nanos(static_cast<int32_t>(unix_ns % 1'000'000'000));
}

std::string HexId(const std::string& bytes) {
  const absl::StatusOr<Id16> id = Id16FromBytes(bytes);
  return id.ok() ? ToHex(*id) : std::string();
}

std::string RelayHex(uint64_t id) {
  return absl::StrFormat("%016x", id);
}

// Pages that the blocks' headers name unreadable. Encrypted ones name none.
uint64_t CountUnreadable(const Store& store, const DumpKey& dump) {
  uint64_t pages = 0;
  for (uint8_t c = 1; c < DCAST_CLASSES; c++) {
    const absl::Status ignored =
        store.ScanHeaders(dump, c, 0, ~0ull, [&](const BlockKey&, std::string_view header) {
          dcast_block_hdr raw;
          if (header.size() >= sizeof(raw)) {
            memcpy(&raw, header.data(), sizeof(raw));
            pages += static_cast<uint64_t>(std::popcount(raw.unreadable));
          }
          return true;
        });
    if (!ignored.ok()) break;
  }
  return pages;
}

}  // namespace

void Catalog::AddMeta(const DumpKey& dump, v1::Dump* out) const {
  BlockKey key;
  const absl::StatusOr<std::string> encoded =
      options_.store->GetBestBlock(dump, 0, dcast_class0_number(DCAST_STREAM_META, 0), &key);
  if (!encoded.ok() || encoded->empty()) return;
  const absl::StatusOr<DecodedBlock> block = DecodeBlock(0, 0, *encoded);
  if (!block.ok()) return;
  const absl::StatusOr<MetaFields> meta = ParseMeta(block->raw);
  if (!meta.ok()) return;
  out->set_boot_id(ToHex(meta->boot_id));
  out->set_hostname(meta->hostname);
  out->set_kernel_release(meta->release);
  out->set_kernel_version(meta->version);
  out->set_elf_machine(meta->elf_machine);
  out->set_reason(meta->reason);
  out->set_live(meta->live);
  out->set_test(meta->test);
  out->set_dump_level(meta->dump_level);
  out->set_cpus(meta->cpus);
  out->set_encrypted(meta->encrypted);
  if (meta->signature != decltype(meta->signature){}) out->set_signature(ToHex(meta->signature));
  SetTime(static_cast<int64_t>(meta->crash_unix_ns), out->mutable_crash_time());
}

void Catalog::AddHolders(const DumpKey& dump, const DumpBlocks& blocks, v1::Dump* out) const {
  v1::Holder* self = out->add_holders();
  self->set_relay_id(RelayHex(options_.store->relay_id()));
  self->set_relay_name(options_.relay_name);
  self->set_blocks(blocks.durable.blocks());
  self->set_complete(IsComplete(blocks.expected, blocks.durable));
  SetTime(options_.now_unix_ns(), self->mutable_update_time());
  if (options_.holders == nullptr) return;
  for (const HolderInfo& info : options_.holders->Holders(dump)) {
    v1::Holder* holder = out->add_holders();
    holder->set_relay_id(RelayHex(info.relay_id));
    holder->set_relay_name(info.relay_name);
    holder->set_blocks(info.blocks);
    holder->set_complete(info.complete);
    SetTime(info.update_unix_ns, holder->mutable_update_time());
  }
}

void Catalog::AddSizes(const DumpKey& dump, uint64_t keys, uint64_t key_sum, v1::Dump* out) {
  Sizes sizes;
  bool known = false;
  {
    absl::MutexLock lock(&mu_);
    const auto it = sizes_.find(dump);
    if (it != sizes_.end() && it->second.keys == keys && it->second.key_sum == key_sum) {
      sizes = it->second;
      known = true;
    }
  }
  if (!known) {
    if (out->state() == v1::DUMP_STATE_RECEIVING && keys > kMeasuredWhileReceiving) return;
    sizes.keys = keys;
    sizes.key_sum = key_sum;
    const absl::StatusOr<std::shared_ptr<DumpViews>> views = views_.Open(dump);
    if (views.ok()) {
      sizes.memory_bytes = (*views)->memory().meta().ram_bytes();
      const auto elf = (*views)->File(v1::DUMP_FORMAT_ELF);
      const auto kdump = (*views)->File(v1::DUMP_FORMAT_KDUMP);
      if (elf.ok()) sizes.elf_bytes = (*elf)->size();
      if (kdump.ok()) sizes.kdump_bytes = (*kdump)->size();
    }
    if (!out->encrypted()) sizes.unreadable_pages = CountUnreadable(*options_.store, dump);
    // Views of another moment than asked for are not remembered under it.
    if (!views.ok() || (*views)->SameBlocks(keys, key_sum)) {
      absl::MutexLock lock(&mu_);
      if (sizes_.size() >= kKeptSizes) sizes_.clear();
      sizes_[dump] = sizes;
    }
  }
  out->set_memory_bytes(sizes.memory_bytes);
  out->set_elf_bytes(sizes.elf_bytes);
  out->set_kdump_bytes(sizes.kdump_bytes);
  out->set_unreadable_pages(sizes.unreadable_pages);
}

absl::StatusOr<v1::Dump> Catalog::Describe(const v1::DumpRecord& record) {
  const DumpKey dump = KeyOf(record);
  if (record.deleted()) {
    return absl::NotFoundError(dump.ResourceName() + " was deleted");
  }
  v1::Dump out;
  out.set_name(dump.ResourceName());
  out.set_host_id(ToHex(dump.host_id));
  out.set_dump_id(ToHex(dump.dump_id));
  out.set_live(record.live());
  out.set_test(record.test());
  out.set_state(record.seal_unix_ns() == 0 ? v1::DUMP_STATE_RECEIVING
                : record.complete()        ? v1::DUMP_STATE_COMPLETE
                                           : v1::DUMP_STATE_INCOMPLETE);
  if (out.state() == v1::DUMP_STATE_INCOMPLETE) {
    out.set_incomplete_reason(record.incomplete_reason());
  }
  if (record.receive_unix_ns() != 0) {
    SetTime(record.receive_unix_ns(), out.mutable_receive_time());
  }
  if (record.seal_unix_ns() != 0) SetTime(record.seal_unix_ns(), out.mutable_seal_time());
  AddMeta(dump, &out);

  uint64_t keys = 0;
  uint64_t key_sum = 0;
  absl::Status status = options_.store->ReadBlockSets(dump, [&](const DumpBlocks& blocks) {
    keys = blocks.held.keys();
    key_sum = blocks.held.key_sum();
    out.set_blocks_held(blocks.expected.known() ? CountExpectedHeld(blocks.expected, blocks.held)
                                                : blocks.held.blocks());
    out.set_blocks_expected(blocks.expected.blocks());
    out.set_stored_bytes(blocks.held.encoded_bytes());
    AddHolders(dump, blocks, &out);
  });
  if (!status.ok()) return status;
  out.set_etag(DumpViews::Etag(keys, key_sum));
  AddSizes(dump, keys, key_sum, &out);
  if (options_.receive_status != nullptr) {
    if (const std::optional<ReceiveStatus> receive =
            options_.receive_status->GetReceiveStatus(dump)) {
      out.set_blocks_announced(receive->blocks_announced);
      for (const PathCounts& counts : receive->paths) {
        v1::PathStats* path = out.add_paths();
        path->set_path(counts.path);
        path->set_origin(RelayHex(counts.origin));
        path->set_packets(counts.packets);
        path->set_lost(counts.lost);
        path->set_duplicates(counts.duplicates);
      }
    }
  }
  return out;
}

v1::HostState StateOf(const v1::HostRecord& record, int64_t now_unix_ns) {
  if (record.disarmed()) return v1::HOST_STATE_DISARMED;
  const int64_t silent_after = int64_t{3} * record.interval_ms() * 1'000'000;
  return now_unix_ns - record.heard_unix_ns() > silent_after ? v1::HOST_STATE_LOST
                                                             : v1::HOST_STATE_ARMED;
}

v1::Host Catalog::Describe(const v1::HostRecord& record, const v1::DumpRecord* newest_dump) const {
  v1::Host host;
  const std::string id = HexId(record.host_id());
  host.set_name("hosts/" + id);
  host.set_host_id(id);
  host.set_hostname(record.hostname());
  host.set_kernel_release(record.kernel_release());
  host.set_boot_id(HexId(record.boot_id()));
  host.set_memory_bytes(record.memory_bytes());
  host.set_paths(record.paths());
  SetTime(record.heard_unix_ns(), host.mutable_last_heard_time());
  host.set_state(StateOf(record, options_.now_unix_ns()));
  if (const absl::StatusOr<Id16> key = Id16FromBytes(record.host_id());
      key.ok() && options_.receive_status != nullptr) {
    host.set_paths_heard(options_.receive_status->PathsHeard(*key));
  }
  if (newest_dump != nullptr) {
    const DumpKey dump = KeyOf(*newest_dump);
    host.set_last_dump(dump.ResourceName());
    SetTime(newest_dump->receive_unix_ns(), host.mutable_last_dump_time());
    v1::Dump meta;
    AddMeta(dump, &meta);
    host.set_last_dump_live(meta.live());
    host.set_last_dump_test(meta.test());
    if (options_.receive_status != nullptr && newest_dump->seal_unix_ns() == 0) {
      const std::optional<ReceiveStatus> receive = options_.receive_status->GetReceiveStatus(dump);
      if (receive && receive->host_dumping) host.set_state(v1::HOST_STATE_DUMPING);
    }
  }
  return host;
}

}  // namespace dumpcast
