// SPDX-License-Identifier: Apache-2.0
#include "relay/writer.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

namespace dumpcast {
namespace {

std::string BytesOf(const Id16& id) {
  return std::string(id.begin(), id.end());
}

}  // namespace

Writer::Writer(Store* store, std::function<int64_t()> now_unix_ns)
    : store_(store), now_unix_ns_(std::move(now_unix_ns)) {}

absl::Status Writer::Do(StoreOp op) {
  switch (op.kind) {
    case StoreOp::Kind::kOpenDump:
      return OpenDump(op);
    case StoreOp::Kind::kPut:
      if (const auto it = unopened_.find(op.dump); it != unopened_.end()) return it->second;
      return store_->PutBlock(op.dump, op.key, std::move(op.encoded));
    case StoreOp::Kind::kFlush:
      return store_->Flush();
    case StoreOp::Kind::kCommit:
    case StoreOp::Kind::kSeal:
      return Seal(op);
    case StoreOp::Kind::kHost:
      return PutHost(op);
    case StoreOp::Kind::kProbe: {
      std::string why;
      return store_->accepting(&why) ? absl::OkStatus() : absl::ResourceExhaustedError(why);
    }
  }
  return absl::InternalError("unknown store work");
}

absl::Status Writer::OpenDump(const StoreOp& op) {
  bool deleted = false;
  bool fresh = false;
  std::string why;
  const bool accepting = store_->accepting(&why);
  absl::Status status = store_->UpdateDump(op.dump, [&](v1::DumpRecord* record) {
    deleted = record->deleted();
    fresh = record->receive_unix_ns() == 0;
    if (deleted || (fresh && !accepting)) return false;
    record->set_key_epoch(op.key_epoch);
    record->set_live(op.live);
    record->set_test(op.test);
    if (fresh) record->set_receive_unix_ns(now_unix_ns_());
    // A complete one never opens again: replication may have sealed it since the op was made.
    if (record->complete()) return true;
    record->set_seal_unix_ns(0);
    record->clear_incomplete_reason();
    return true;
  });
  if (status.ok() && deleted) status = absl::FailedPreconditionError("the dump was deleted");
  if (status.ok() && fresh && !accepting)
    status = absl::ResourceExhaustedError("no new dump is begun: " + why);
  if (status.ok()) {
    unopened_.erase(op.dump);
  } else {
    unopened_[op.dump] = status;
  }
  return status;
}

absl::Status Writer::Seal(const StoreOp& op) {
  bool deleted = false;
  absl::Status status = store_->UpdateDump(op.dump, [&](v1::DumpRecord* record) {
    deleted = record->deleted();
    if (deleted) return false;
    record->set_committed_lanes(record->committed_lanes() | op.committed_lanes);
    if (op.signature != decltype(op.signature){})
      record->set_signature(op.signature.data(), op.signature.size());
    // What replication has sealed complete meanwhile stays complete.
    if (op.kind == StoreOp::Kind::kSeal && (op.complete || !record->complete())) {
      record->set_seal_unix_ns(now_unix_ns_());
      record->set_complete(op.complete);
      record->set_incomplete_reason(op.complete ? "" : op.reason);
    }
    return true;
  });
  if (status.ok() && deleted) return absl::FailedPreconditionError("the dump was deleted");
  return status;
}

absl::Status Writer::PutHost(const StoreOp& op) {
  v1::HostRecord record;
  record.set_host_id(BytesOf(op.dump.host_id));
  record.set_hostname(op.hostname);
  record.set_kernel_release(op.kernel_release);
  record.set_boot_id(BytesOf(op.boot_id));
  record.set_memory_bytes(op.memory_bytes);
  record.set_paths(op.paths);
  record.set_heard_unix_ns(now_unix_ns_());
  record.set_interval_ms(op.interval_ms);
  record.set_disarmed(op.disarmed);
  record.set_announce_unix_ns(op.announce_unix_ns);
  for (const Id16& boot_id : op.former_boots) record.add_former_boot_ids(BytesOf(boot_id));
  return store_->PutHost(record);
}

absl::Status RestoreRecord(const Store& store, const v1::DumpRecord& record, TimeNs now,
                           int64_t now_unix_ns, Engine* engine) {
  RestoredDump dump;
  dump.key = KeyOf(record);
  dump.key_epoch = static_cast<uint16_t>(record.key_epoch());
  dump.declined = record.deleted();
  dump.sealed = record.seal_unix_ns() != 0;
  dump.complete = record.complete();
  dump.live = record.live();
  dump.test = record.test();
  dump.committed_lanes = record.committed_lanes();
  if (record.signature().size() == dump.signature.size())
    std::copy(record.signature().begin(), record.signature().end(), dump.signature.begin());
  // A clock that was set back makes it new.
  dump.age_ns = static_cast<TimeNs>(std::max<int64_t>(now_unix_ns - record.receive_unix_ns(), 0));
  engine->RestoreDump(now, dump);
  if (dump.declined || (dump.sealed && dump.complete)) return absl::OkStatus();
  for (uint8_t c = 0; c < DCAST_CLASSES; ++c) {
    absl::Status status =
        store.ScanBlocks(dump.key, c, 0, std::numeric_limits<uint64_t>::max(), c == 0,
                         [&](const BlockKey& key, std::string_view encoded) {
                           engine->RestoreBlock(dump.key, key, encoded);
                           return true;
                         });
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status RestoreFromStore(const Store& store, TimeNs now, int64_t now_unix_ns, Engine* engine) {
  for (const v1::HostRecord& record : store.ListHosts()) {
    const absl::StatusOr<Id16> host_id = Id16FromBytes(record.host_id());
    const absl::StatusOr<Id16> boot_id = Id16FromBytes(record.boot_id());
    if (!host_id.ok() || !boot_id.ok()) continue;  // it is told anew by the next ANNOUNCE
    RestoredHost host{*host_id, *boot_id, {}, record.announce_unix_ns()};
    for (const std::string& bytes : record.former_boot_ids())
      if (const auto former = Id16FromBytes(bytes); former.ok())
        host.former_boots.push_back(*former);
    engine->RestoreHost(host);
  }
  for (const v1::DumpRecord& record : store.ListDumps()) {
    absl::Status status = RestoreRecord(store, record, now, now_unix_ns, engine);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace dumpcast
