// SPDX-License-Identifier: Apache-2.0
#include "kmod/core/send/handover.h"

#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kmod/core/send/page_filter.h"
#include "tests/unit/core/send/crashed_memory.h"

namespace dumpcast {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kRecord = 0x200000;

class HandoverTest : public ::testing::Test {
 protected:
  HandoverTest() {
    keys_.by_epoch[7].fill(0x5a);
    std::memcpy(record_.magic, DCAST_HANDOVER_MAGIC, sizeof(record_.magic));
    record_.version = dcast_to_le16(DCAST_HANDOVER_VERSION);
    record_.key_epoch = dcast_to_le16(7);
    record_.written_ns = dcast_to_le64(1000);
    for (int i = 0; i < DCAST_ID_BYTES; ++i) {
      record_.host_id[i] = static_cast<__u8>(i + 1);
      record_.dump_id[i] = static_cast<__u8>(0xd0 + i);
    }
    record_.state = DCAST_HANDOVER_ENDED;
    record_.paths = 2;
    record_.lanes = 1;
    record_.page_shift = 12;
    record_.dump_level = 31;
    record_.slots = 8;
    record_.symbol_size = dcast_to_le16(1376);
    std::strcpy(record_.hostname, "db7");
    for (unsigned i = 0; i < 2; ++i) {
      dcast_handover_path& path = record_.path[i];
      std::strcpy(path.device, i ? "lo" : "nosuch0");
      path.family = i ? 6 : 4;
      path.nr_targets = 1;
      path.ttl = 16;
      path.port = dcast_to_le16(26210);
      path.source_port = dcast_to_le16(26210);
      path.targets[0][0] = i ? 0xff : 239;
      path.targets[0][15] = 9;
    }
  }
  // Writes record_ with its frames at an address, with the MAC that is right for these keys.
  void Put(uint64_t address, uint64_t key_byte = 0x5a) {
    record_.paddr = dcast_to_le64(address);
    record_.nr_frames = dcast_to_le32(static_cast<__u32>(frames_.size()));
    std::vector<uint8_t> whole(sizeof(record_) + frames_.size() * 8);
    record_.size = dcast_to_le32(static_cast<__u32>(whole.size()));
    std::memcpy(whole.data(), &record_, sizeof(record_));
    if (!frames_.empty()) {
      std::memcpy(whole.data() + sizeof(record_), frames_.data(), frames_.size() * 8);
    }
    Key cluster;
    cluster.fill(static_cast<uint8_t>(key_byte));
    HostId host;
    std::copy(record_.host_id, record_.host_id + DCAST_ID_BYTES, host.begin());
    dcast_keys keys;
    dcast_keys_init(&keys, DeriveHostKey(cluster, host, 7).data());
    const __le64 mac = dcast_to_le64(dcast_siphash(
        &keys.mac, whole.data() + DCAST_HANDOVER_MAC_FROM, whole.size() - DCAST_HANDOVER_MAC_FROM));
    std::memcpy(whole.data() + offsetof(dcast_handover, mac), &mac, 8);
    memory_.Write(address, whole.data(), whole.size());
  }
  absl::StatusOr<Handover> Find() {
    file_ = memory_.Vmcore();
    auto source = MemorySource::FromBytes(reinterpret_cast<const uint8_t*>(file_.data()),
                                          file_.size(), MemorySource::Format::kElf, "test");
    EXPECT_TRUE(source.ok()) << source.status();
    source_ = *std::move(source);
    auto filter = PageFilter::Create(
        [this](uint64_t at, void* dst, size_t n) { return source_->ReadPhysical(at, dst, n); },
        source_->stream(DCAST_STREAM_VMCOREINFO));
    EXPECT_TRUE(filter.ok()) << filter.status();
    source_->SetFilter(*std::move(filter), 31);
    return FindHandover(*source_, keys_);
  }
  dcast_handover record_ = {};
  std::vector<uint64_t> frames_;
  ClusterKeys keys_;
  CrashedMemory memory_;
  std::string file_;
  std::unique_ptr<MemorySource> source_;
};

TEST_F(HandoverTest, ARecordGivesWhoWhatAndTheStreamsFromScatteredPages) {
  const std::string log(5000, 'l');
  memory_.Write(0x300000 + 4000, log.data(), 96);  // three pages that do not follow each other
  memory_.Write(0x500000, log.data() + 96, 4096);
  memory_.Write(0x310000, log.data() + 96 + 4096, log.size() - 96 - 4096);
  frames_ = {0xdead, 0x300, 0x500, 0x310};
  record_.streams[DCAST_STREAM_LOG] = {dcast_to_le32(1), dcast_to_le32(4000)};
  record_.meta.stream_len[DCAST_STREAM_LOG] = dcast_to_le64(log.size());
  record_.streams[DCAST_STREAM_NOTES].frame = dcast_to_le32(DCAST_HANDOVER_NO_FRAME);
  record_.meta.stream_len[DCAST_STREAM_NOTES] = dcast_to_le64(10);
  Put(kRecord);
  const auto found = Find();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->streams[DCAST_STREAM_LOG], log);
  EXPECT_EQ(found->streams[DCAST_STREAM_NOTES], std::string(10, '\0')) << "lost, but as long";
  EXPECT_THAT(Describe(*found), HasSubstr("d0d1d2d3d4d5d6d7d8d9dadbdcdddedf of db7: the first"));
}

TEST_F(HandoverTest, AnEncryptedDumpHasItsKeysInAPageThatIsNamed) {
  constexpr uint64_t kSecrets = 0x700000;
  const std::string boxes(sizeof(dcast_key_box), 'b');
  memory_.Write(0x500000, boxes.data(), boxes.size());
  frames_ = {0x500};
  record_.streams[DCAST_STREAM_KEYS] = {0, 0};
  record_.meta.stream_len[DCAST_STREAM_KEYS] = dcast_to_le64(boxes.size());
  record_.encrypted = 1;
  record_.secrets_paddr = dcast_to_le64(kSecrets);
  Put(kRecord);
  EXPECT_EQ(Find().status().code(), absl::StatusCode::kDataLoss) << "nothing is there";

  dcast_secrets secrets = {};
  HostId host;
  std::copy(record_.host_id, record_.host_id + DCAST_ID_BYTES, host.begin());
  dcast_keys_init(&secrets.wire, keys_.HostKey(host, 7)->data());
  secrets.end_to_end.cipher[0] = 0xc1;
  secrets.encrypted = 1;
  memory_.Write(kSecrets, &secrets, sizeof(secrets));
  const auto found = Find();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->secrets.end_to_end.cipher[0], 0xc1);
  EXPECT_EQ(found->streams[DCAST_STREAM_KEYS], boxes);

  source_->LeaveOut(kSecrets / 4096);
  uint8_t cls[DCAST_MAX_WINDOW_PAGES];
  source_->WindowClasses(kSecrets >> DCAST_WINDOW_SHIFT, cls);
  EXPECT_EQ(cls[0], DCAST_CLASS_EXCLUDED);
  EXPECT_NE(cls[1], DCAST_CLASS_EXCLUDED);

  secrets.wire.mac.k0 ^= 1;  // overwritten meanwhile
  memory_.Write(kSecrets, &secrets, sizeof(secrets));
  EXPECT_EQ(Find().status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(HandoverTest, TheNewestOfSeveralCounts) {
  Put(kRecord);
  record_.written_ns = dcast_to_le64(2000);
  record_.dump_id[0] = 1;
  Put(kRecord + 0x10000);
  record_.written_ns = dcast_to_le64(1500);
  record_.dump_id[0] = 2;
  Put(kRecord + 0x20000);
  ASSERT_TRUE(Find().ok());
  EXPECT_EQ(Find()->record.dump_id[0], 1);
}

TEST_F(HandoverTest, WhatAnEarlierBootLeftInAFreePageIsNone) {
  Put(kRecord);
  memory_.SetFree(kRecord / 4096, 0);
  EXPECT_TRUE(absl::IsNotFound(Find().status()));
}

TEST_F(HandoverTest, ACopyElsewhereIsNone) {
  Put(kRecord);
  std::string copy(sizeof(record_), '\0');
  ASSERT_TRUE(memory_.Read(kRecord, copy.data(), copy.size()));
  memory_.Write(kRecord + 0x3000, copy.data(), copy.size());
  memory_.Set8(kRecord, 0);
  EXPECT_TRUE(absl::IsNotFound(Find().status()));
}

TEST_F(HandoverTest, AFlippedBitIsABadMac) {
  Put(kRecord);
  memory_.Set8(kRecord + sizeof(record_) - 1, 1);
  EXPECT_THAT(Find().status().message(), HasSubstr("its MAC does not match the key file"));
}

TEST_F(HandoverTest, AnotherClustersRecordIsNotBelieved) {
  Put(kRecord, 0x11);
  EXPECT_THAT(Find().status().message(), HasSubstr("its MAC does not match the key file"));
}

TEST_F(HandoverTest, AnUnknownEpochIsToldSo) {
  record_.key_epoch = dcast_to_le16(8);
  Put(kRecord);
  EXPECT_THAT(Find().status().message(), HasSubstr("the key file lacks its epoch"));
}

TEST_F(HandoverTest, AnotherVersionIsToldSo) {
  record_.version = dcast_to_le16(DCAST_HANDOVER_VERSION + 1);
  Put(kRecord);
  EXPECT_THAT(Find().status().message(), HasSubstr("of a version that is not known"));
}

TEST_F(HandoverTest, NoRecordIsAHostThatWasNotArmed) {
  const auto found = Find();
  EXPECT_TRUE(absl::IsNotFound(found.status()));
  EXPECT_THAT(found.status().message(), HasSubstr("no record of an armed dumpcast module"));
}

TEST_F(HandoverTest, PathsAreThoseWhoseDeviceIsHere) {
  Put(kRecord);
  const auto found = Find();
  ASSERT_TRUE(found.ok());
  dcast_config config = {};
  std::vector<UdpPathOptions> paths;
  ApplyHandover(*found, &config, &paths);
  ASSERT_EQ(paths.size(), 1u);
  EXPECT_EQ(paths[0].interface, "lo");
  EXPECT_EQ(paths[0].destinations[0].ToString(), "[ff00::9]:26210");
  EXPECT_EQ(paths[0].source_port, 26210);
  EXPECT_EQ(config.symbol_size, 1376);
  EXPECT_EQ(config.commits_wanted, 0) << "no relay was known: the default";
}

TEST_F(HandoverTest, WithoutAnyOfItsDevicesTheRoutingTableChooses) {
  std::strcpy(record_.path[1].device, "nosuch1");
  record_.relays = 3;
  Put(kRecord);
  const auto found = Find();
  ASSERT_TRUE(found.ok());
  dcast_config config = {};
  std::vector<UdpPathOptions> paths;
  ApplyHandover(*found, &config, &paths);
  ASSERT_EQ(paths.size(), 1u);
  EXPECT_EQ(paths[0].interface, "");
  EXPECT_EQ(paths[0].destinations[0].ToString(), "239.0.0.0:26210");
  EXPECT_EQ(config.commits_wanted, 2) << "though this sender has heard none yet";
}

TEST_F(HandoverTest, AMemoryMapThatCannotBeIsRefused) {
  Put(kRecord);
  ASSERT_TRUE(Find().ok());
  const dcast_range ranges[] = {{0x2000, 0x3000}, {0x1000, 0x2000}};
  std::array<std::string, DCAST_STREAMS> streams;
  EXPECT_FALSE(source_->TakeStreams({}, streams).ok());
  streams[DCAST_STREAM_MEMMAP].assign(reinterpret_cast<const char*>(ranges), sizeof(ranges));
  EXPECT_FALSE(source_->TakeStreams({}, streams).ok());
  streams[DCAST_STREAM_MEMMAP].resize(sizeof(ranges[0]));
  EXPECT_TRUE(source_->TakeStreams({}, streams).ok());
  EXPECT_EQ(source_->ranges().size(), 1u);
}

}  // namespace
}  // namespace dumpcast
