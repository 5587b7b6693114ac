// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/store/stored_dump.h"

#include <cstdlib>
#include <cstring>

#include "tests/unit/store/store_fixture.h"

namespace dumpcast::testing {

const dcast_keys& TestKeys() {
  static const dcast_keys keys = [] {
    uint8_t host_key[DCAST_HOST_KEY_BYTES];
    for (size_t i = 0; i < sizeof(host_key); i++) host_key[i] = static_cast<uint8_t>(i);
    dcast_keys made;
    dcast_keys_init(&made, host_key);
    return made;
  }();
  return keys;
}

uint64_t DigestOf(uint8_t block_class, uint64_t number, std::string_view encoded) {
  return dcast_block_digest(&TestKeys(), block_class, number, encoded.data(),
                            static_cast<uint32_t>(encoded.size()));
}

absl::Status VerifyDigest(const DumpKey&, uint32_t, const BlockKey& key, std::string_view encoded) {
  if (DigestOf(key.block_class, key.number, encoded) == key.digest) return absl::OkStatus();
  return absl::DataLossError("digest does not match");
}

std::vector<StoredBlock> BlocksOf(const MapBlockSource& source) {
  std::vector<StoredBlock> blocks;
  for (const auto& [id, encoded] : source.blocks()) {
    BlockKey key{id.first, id.second, 0};
    if (!encoded.empty()) key.digest = DigestOf(id.first, id.second, encoded);
    blocks.push_back({key, encoded});
  }
  return blocks;
}

namespace {

DumpBuilder SmallDumpBuilder() {
  absl::StatusOr<DumpBuilder> builder = DumpBuilder::FromText(R"(
    ram 0x1000 0x9f000
    ram 0x100000 0x2800000
    page_offset 0xffff888000000000
    text 0xffffffff81000000 0x1000000 0x200000
    info OSRELEASE=6.1.0-test
    log [    0.000000] Linux version 6.1.0-test
    log [   12.345678] Kernel panic - not syncing: sysrq triggered crash
    page 1-0x20 1 0x11
    page 0x100-0x1ff 2 own
    page 0x400-0x7ff 3 own
    page 0x800-0x80f 3 zero
    page 0x1000-0x11ff 1 own
    page 0x2000-0x23ff 2 own
  )");
  if (!builder.ok()) {
    fprintf(stderr, "%s\n", builder.status().ToString().c_str());
    abort();
  }
  builder->meta.elf_machine = 62;
  builder->meta.dump_level = 31;
  builder->meta.cpus = 2;
  builder->meta.crash_unix_ns = dcast_to_le64(1'700'000'000'000'000'000);
  strcpy(builder->meta.hostname, "db7");
  strcpy(builder->meta.release, "6.1.0-test");
  strcpy(builder->meta.reason, "sysrq triggered crash");
  return *std::move(builder);
}

}  // namespace

std::vector<StoredBlock> SmallDump(const std::function<void(DumpBuilder*)>& edit) {
  DumpBuilder builder = SmallDumpBuilder();
  if (edit) edit(&builder);
  return BlocksOf(*builder.Build());
}

std::vector<StoredBlock> EncryptedSmallDump(const DumpKey& dump, const EndToEndKey& key,
                                            const Recipient& recipient) {
  DumpBuilder builder = SmallDumpBuilder();
  for (size_t i = 0; i < sizeof(builder.meta.signature); i++) {
    builder.meta.signature[i] = static_cast<uint8_t>(i);
  }
  return BlocksOf(*builder.BuildEncrypted(key, dump.dump_id, {recipient}));
}

void PutAll(Store* store, const DumpKey& dump, const std::vector<StoredBlock>& blocks,
            const std::function<bool(const BlockKey&)>& keep) {
  for (const StoredBlock& block : blocks) {
    if (keep && !keep(block.key)) continue;
    const absl::Status s = store->PutBlock(dump, block.key, block.encoded);
    if (!s.ok()) {
      fprintf(stderr, "put: %s\n", s.ToString().c_str());
      abort();
    }
  }
  if (!store->Flush().ok()) abort();
}

}  // namespace dumpcast::testing
