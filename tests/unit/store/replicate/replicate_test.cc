// SPDX-License-Identifier: Apache-2.0
// Several stores and their servers in one process, replicating over loopback.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <mutex>
#include <optional>
#include <random>

#include "absl/synchronization/notification.h"
#include "store/replicate/replicator.h"
#include "store/service/server.h"
#include "store/service/views.h"
#include "tests/unit/store/store_fixture.h"
#include "tests/unit/store/stored_dump.h"

namespace dumpcast {
namespace {

using testing::DigestOf;
using testing::DumpOf;
using ::testing::HasSubstr;
using testing::OpenOrDie;
using testing::PutAll;
using testing::RecordOf;
using testing::SmallDump;
using testing::StoredBlock;
using testing::TempDir;

constexpr int64_t kNow = 1'700'000'100'000'000'000;

// A block that is incomplete, of which these symbols are there.
class Incomplete final : public ReceiveStatusSource {
 public:
  std::optional<ReceiveStatus> GetReceiveStatus(const DumpKey&) const override { return {}; }
  uint32_t PathsHeard(const Id16&) const override { return 0; }
  bool FindSymbols(const DumpKey&, BlockSymbols* wanted) const override {
    wanted->mask &= symbols;
    wanted->bytes.assign(static_cast<size_t>(std::popcount(wanted->mask)), 's');
    wanted->count = 0;
    return wanted->mask != 0;
  }
  std::atomic<uint64_t> symbols = 0;
};

// One relay: a store, its server, and a replicator that knows every other's address.
class Node {
 public:
  explicit Node(std::vector<std::string>* addresses) : addresses_(addresses) {
    store_ = OpenOrDie(dir_.path());
    StartServing();
    addresses_->push_back(address_);
  }
  ~Node() {
    replicator_.reset();
    server_.reset();
  }

  void StartServing() {
    ServerOptions options;
    options.store = store_.get();
    options.receive_status = &incomplete_;
    options.relay_name = "node";
    options.listen = {address_.empty() ? "127.0.0.1:0" : address_};
    server_ = *StartServer(options);
    address_ = "127.0.0.1:" + std::to_string(server_->ports()[0]);
  }
  void StopServing() { server_.reset(); }

  Replicator& replicator(const std::function<void(ReplicatorOptions*)>& edit = {}) {
    if (replicator_ == nullptr) {
      ReplicatorOptions options;
      options.store = store_.get();
      options.relay_name = "node";
      options.peers = [this] { return *addresses_; };
      options.channel = [](const std::string& target) {
        grpc::ChannelArguments args;
        args.SetInt("grpc.max_reconnect_backoff_ms", 200);
        return grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), args);
      };
      options.verify = testing::VerifyDigest;
      options.period = absl::InfiniteDuration();
      options.now_unix_ns = [] { return kNow; };
      options.batch_blocks = 16;
      options.log = [this](const DumpKey&, const std::string& line) {
        std::lock_guard lock(mu_);
        log_ += line + "\n";
      };
      if (edit) edit(&options);
      replicator_ = std::make_unique<Replicator>(options);
    }
    return *replicator_;
  }

  void Record(const DumpKey& dump, int64_t seal, bool complete) {
    v1::DumpRecord record = RecordOf(dump);
    record.set_key_epoch(3);
    record.set_seal_unix_ns(seal);
    record.set_complete(complete);
    if (seal != 0 && !complete) record.set_incomplete_reason("the host went away");
    ASSERT_TRUE(store_->PutDump(record).ok());
  }

  std::pair<uint64_t, uint64_t> Set(const DumpKey& dump) {
    std::pair<uint64_t, uint64_t> set;
    EXPECT_TRUE(store_
                    ->ReadBlockSets(dump,
                                    [&](const DumpBlocks& blocks) {
                                      EXPECT_EQ(blocks.held.keys(), blocks.durable.keys());
                                      set = {blocks.durable.keys(), blocks.durable.key_sum()};
                                    })
                    .ok());
    return set;
  }

  std::string File(const DumpKey& dump, v1::DumpFormat format) {
    ViewCache cache(store_.get());
    auto views = cache.Open(dump);
    EXPECT_TRUE(views.ok()) << views.status();
    auto file = (*views)->File(format);
    EXPECT_TRUE(file.ok()) << file.status();
    std::string bytes((*file)->size(), '\0');
    EXPECT_TRUE((*file)->Read(0, bytes.size(), bytes.data()).ok());
    return bytes;
  }

  std::string log() {
    std::lock_guard lock(mu_);
    return log_;
  }
  // Bytes of its tables change; see FlipTables().
  size_t Damage(size_t every) {
    server_.reset();
    store_.reset();
    const size_t flipped = testing::FlipTables(dir_.path(), every);
    store_ = OpenOrDie(dir_.path());
    StartServing();
    return flipped;
  }
  Store* store() { return store_.get(); }
  Incomplete& incomplete() { return incomplete_; }
  const std::string& address() const { return address_; }

 private:
  std::vector<std::string>* const addresses_;
  TempDir dir_;
  Incomplete incomplete_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<ApiServer> server_;
  std::unique_ptr<Replicator> replicator_;
  std::string address_;
  std::mutex mu_;
  std::string log_;
};

// Another encoding of the same pages: uncompressed instead of LZ4.
std::vector<StoredBlock> OtherEncodings() {
  return SmallDump([](DumpBuilder* builder) { builder->codec = DCAST_CODEC_NONE; });
}

class ReplicateTest : public ::testing::Test {
 protected:
  Node& Add() {
    nodes_.push_back(std::make_unique<Node>(&addresses_));
    return *nodes_.back();
  }
  void RunRound() {
    for (auto& node : nodes_) {
      const absl::Status s = node->replicator().RunOnce();
      EXPECT_TRUE(s.ok()) << s;
    }
  }

  std::vector<std::string> addresses_;
  std::vector<std::unique_ptr<Node>> nodes_;
  const DumpKey dump_ = DumpOf(1, 2);
};

TEST_F(ReplicateTest, DisjointLossesDivergentDigestsAndAnEmptyOneEndByteIdentical) {
  const std::vector<StoredBlock> blocks = SmallDump();
  const std::vector<StoredBlock> other = OtherEncodings();
  for (uint64_t seed = 1; seed <= 5; seed++) {
    const DumpKey dump = DumpOf(1, static_cast<uint8_t>(seed));
    if (nodes_.empty()) {
      for (int i = 0; i < 3; i++) Add();
    }
    std::mt19937_64 random(seed);
    // a and b lack different blocks, and took some in different encodings; c has nothing.
    std::vector<StoredBlock> a_blocks;
    std::vector<StoredBlock> b_blocks;
    for (size_t i = 0; i < blocks.size(); i++) {
      const int who = static_cast<int>(random() % 3);
      const StoredBlock& b_block = random() % 4 == 0 ? other[i] : blocks[i];
      if (who != 0) a_blocks.push_back(blocks[i]);
      if (who != 1) b_blocks.push_back(b_block);
    }
    PutAll(nodes_[0]->store(), dump, a_blocks);
    PutAll(nodes_[1]->store(), dump, b_blocks);
    nodes_[0]->Record(dump, kNow - 1, false);
    nodes_[1]->Record(dump, kNow - 1, false);
    RunRound();
    RunRound();
    EXPECT_EQ(nodes_[0]->Set(dump), nodes_[1]->Set(dump)) << "seed " << seed;
    EXPECT_EQ(nodes_[0]->Set(dump), nodes_[2]->Set(dump)) << "seed " << seed;
    EXPECT_GT(nodes_[0]->Set(dump).first, blocks.size()) << "no divergent digest: seed " << seed;
    for (const v1::DumpFormat format : {v1::DUMP_FORMAT_ELF, v1::DUMP_FORMAT_KDUMP}) {
      const std::string file = nodes_[0]->File(dump, format);
      EXPECT_TRUE(file == nodes_[1]->File(dump, format)) << "seed " << seed;
      EXPECT_TRUE(file == nodes_[2]->File(dump, format)) << "seed " << seed;
    }
    for (auto& node : nodes_) {
      const v1::DumpRecord record = *node->store()->GetDump(dump);
      EXPECT_TRUE(record.complete()) << "seed " << seed << "\n" << node->log();
      EXPECT_NE(record.seal_unix_ns(), 0);
      EXPECT_EQ(record.incomplete_reason(), "");
      EXPECT_EQ(record.key_epoch(), 3u);
    }
  }
  // Nothing is left to do: a further round fetches nothing.
  const uint64_t fetched = nodes_[2]->replicator().stats().blocks_fetched;
  RunRound();
  EXPECT_EQ(nodes_[2]->replicator().stats().blocks_fetched, fetched);
  const std::vector<HolderInfo> holders = nodes_[2]->replicator().Holders(DumpOf(1, 1));
  ASSERT_EQ(holders.size(), 2u);
  EXPECT_TRUE(holders[0].complete && holders[1].complete);
}

TEST_F(ReplicateTest, WhatNobodyHasStaysMissingAndIsSaid) {
  Node& a = Add();
  Node& b = Add();
  const std::vector<StoredBlock> blocks = SmallDump();
  const auto lost = [](const BlockKey& key) { return key.block_class == 3 && key.number < 70; };
  PutAll(a.store(), dump_, blocks, [&](const BlockKey& key) { return !lost(key); });
  a.Record(dump_, kNow - 1, false);
  RunRound();
  EXPECT_EQ(a.Set(dump_), b.Set(dump_));
  const v1::DumpRecord record = *b.store()->GetDump(dump_);
  EXPECT_FALSE(record.complete());
  EXPECT_NE(record.seal_unix_ns(), 0);
  EXPECT_THAT(record.incomplete_reason(), HasSubstr("blocks are missing here and on the peers"));
  // a keeps its own reason.
  EXPECT_EQ(a.store()->GetDump(dump_)->incomplete_reason(), "the host went away");
  // The rest comes from a third one: both become complete.
  Node& c = Add();
  PutAll(c.store(), dump_, blocks, lost);
  c.Record(dump_, 0, false);
  RunRound();
  RunRound();
  EXPECT_TRUE(a.store()->GetDump(dump_)->complete());
  EXPECT_TRUE(b.store()->GetDump(dump_)->complete());
  EXPECT_TRUE(c.store()->GetDump(dump_)->complete());
}

TEST_F(ReplicateTest, AnUnsealedDumpOfAPeerIsTakenAndNotSealed) {
  Node& a = Add();
  Node& b = Add();
  const std::vector<StoredBlock> blocks = SmallDump();
  PutAll(a.store(), dump_, blocks, [](const BlockKey& key) { return key.block_class < 2; });
  a.Record(dump_, 0, false);
  RunRound();
  EXPECT_EQ(a.Set(dump_), b.Set(dump_));
  EXPECT_EQ(b.store()->GetDump(dump_)->seal_unix_ns(), 0);
}

TEST_F(ReplicateTest, ADumpThatArrivesHereIsLeftToItsReceiver) {
  Node& a = Add();
  Node& b = Add();
  PutAll(a.store(), dump_, SmallDump());
  a.Record(dump_, kNow - 1, true);
  bool receiving = true;
  b.replicator([&](ReplicatorOptions* options) {
    options->receiving = [&](const DumpKey&) { return receiving; };
  });
  ASSERT_TRUE(b.replicator().RunOnce().ok());
  EXPECT_EQ(b.Set(dump_).first, 0u);
  EXPECT_EQ(b.replicator().Holders(dump_).size(), 1u);
  receiving = false;
  ASSERT_TRUE(b.replicator().RunOnce().ok());
  EXPECT_EQ(b.Set(dump_), a.Set(dump_));
}

TEST_F(ReplicateTest, TombstonesWinForEver) {
  Node& a = Add();
  Node& b = Add();
  Node& c = Add();
  const std::vector<StoredBlock> blocks = SmallDump();
  PutAll(a.store(), dump_, blocks);
  a.Record(dump_, kNow - 1, true);
  RunRound();
  EXPECT_EQ(c.Set(dump_), a.Set(dump_));
  ASSERT_TRUE(b.store()->DeleteDump(dump_, kNow).ok());
  std::vector<DumpKey> deleted;
  Node& d = Add();
  // One that comes later still has the blocks, and does not bring them back.
  PutAll(d.store(), dump_, blocks);
  d.Record(dump_, kNow - 1, true);
  d.replicator([&](ReplicatorOptions* options) {
    options->on_delete = [&](const DumpKey& dump) { deleted.push_back(dump); };
  });
  RunRound();
  RunRound();
  for (auto& node : nodes_) {
    EXPECT_TRUE(node->store()->GetDump(dump_)->deleted());
    EXPECT_EQ(node->Set(dump_).first, 0u);
    EXPECT_TRUE(node->replicator().Holders(dump_).empty());
  }
  EXPECT_EQ(deleted, std::vector<DumpKey>{dump_});
}

TEST_F(ReplicateTest, BlocksThatDoNotMatchTheirDigestAreRefused) {
  Node& a = Add();
  Node& b = Add();
  std::vector<StoredBlock> blocks = SmallDump();
  ASSERT_GT(blocks[40].key.block_class, 0);
  blocks[40].encoded.back() = static_cast<char>(blocks[40].encoded.back() ^ 1);
  PutAll(a.store(), dump_, blocks);
  a.Record(dump_, kNow - 1, true);
  ASSERT_TRUE(b.replicator().RunOnce().ok());
  EXPECT_EQ(b.Set(dump_).first, blocks.size() - 1);
  EXPECT_EQ(b.replicator().stats().blocks_refused, 1u);
  EXPECT_THAT(b.log(), HasSubstr("digest does not match"));
  EXPECT_FALSE(b.store()->GetDump(dump_)->complete());
}

TEST_F(ReplicateTest, APeerThatIsDownDoesNotKeepTheOthersFromBeingAsked) {
  Node& a = Add();
  Node& b = Add();
  Node& c = Add();
  PutAll(c.store(), dump_, SmallDump());
  c.Record(dump_, kNow - 1, true);
  a.StopServing();
  const absl::Status s = b.replicator().RunOnce();
  EXPECT_EQ(s.code(), absl::StatusCode::kUnavailable) << s;
  EXPECT_EQ(b.Set(dump_), c.Set(dump_));
  EXPECT_EQ(b.replicator().stats().peer_failures, 1u);
  EXPECT_THAT(b.log(), HasSubstr(a.address()));
}

TEST_F(ReplicateTest, AFullDiskIsSaidAndNothingIsSealed) {
  Node& a = Add();
  PutAll(a.store(), dump_, SmallDump());
  a.Record(dump_, kNow - 1, true);
  TempDir dir;
  StoreOptions full = testing::SmallStore(dir.path());
  full.min_free_bytes = ~0ull;
  auto store = std::move(*Store::Open(full));
  ReplicatorOptions options;
  options.store = store.get();
  options.peers = [&] { return addresses_; };
  options.channel = [](const std::string& target) {
    return grpc::CreateChannel(target, grpc::InsecureChannelCredentials());
  };
  options.verify = testing::VerifyDigest;
  Replicator replicator(options);
  EXPECT_EQ(replicator.RunOnce().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(store->GetDump(dump_)->seal_unix_ns(), 0);
}

TEST_F(ReplicateTest, FetchingFromPeersAsksOneAfterAnotherWithinBounds) {
  Node& a = Add();
  Node& b = Add();
  Node& c = Add();
  const std::vector<StoredBlock> blocks = SmallDump();
  const auto even = [](const BlockKey& key) { return key.number % 2 == 0; };
  PutAll(a.store(), dump_, blocks, even);
  PutAll(b.store(), dump_, blocks, [&](const BlockKey& key) { return !even(key); });
  a.Record(dump_, 0, false);
  b.Record(dump_, 0, false);
  // What arrives here is fetched on request only, not by rounds.
  c.replicator([](ReplicatorOptions* options) {
     options->receiving = [](const DumpKey&) { return true; };
   }).Start();
  std::set<BlockKey> wanted;
  for (const StoredBlock& block : blocks) {
    if (block.key.block_class == 2) wanted.insert(block.key);
  }
  ASSERT_GT(wanted.size(), 20u);
  std::set<BlockKey> got;
  for (int call = 0; call < 100 && got.size() < wanted.size(); call++) {
    std::vector<BlockRun> runs;
    for (const BlockKey& key : wanted) {
      if (!got.contains(key)) runs.push_back({2, key.number, 1});
    }
    absl::Notification done;
    FetchResult result;
    c.replicator().FetchFromPeers(dump_, 3, runs, {}, [&](FetchResult r) {
      result = std::move(r);
      done.Notify();
    });
    done.WaitForNotification();
    ASSERT_LE(result.blocks.size(), 16u);
    ASSERT_GE(result.peers_asked, 1u);
    for (const FetchedBlock& block : result.blocks) {
      EXPECT_EQ(DigestOf(2, block.key.number, block.encoded), block.key.digest);
      EXPECT_TRUE(got.insert(block.key).second) << "asked for once, came twice";
    }
    EXPECT_EQ(result.more, result.blocks.size() == 16);
  }
  EXPECT_EQ(got, wanted);
  EXPECT_EQ(c.Set(dump_).first, 0u) << "putting is the caller's";
  // What nobody has: every peer was asked, nothing came.
  absl::Notification done;
  c.replicator().FetchFromPeers(DumpOf(7, 7), 1, {{1, 0, 100}}, {}, [&](const FetchResult& r) {
    EXPECT_TRUE(r.blocks.empty());
    EXPECT_FALSE(r.more);
    EXPECT_EQ(r.peers_asked, 2u);
    done.Notify();
  });
  done.WaitForNotification();
}

TEST_F(ReplicateTest, SymbolsComeFromWhoHasTheirEncodingDurableOrNot) {
  constexpr uint16_t kSymbolSize = 1376;
  Node& a = Add();
  Node& b = Add();
  Node& c = Add();
  std::vector<BlockSymbols> wanted;
  std::map<BlockKey, std::string> encodings;
  for (const StoredBlock& block : OtherEncodings()) {
    if (block.encoded.size() <= kSymbolSize) continue;
    wanted.push_back({block.key, kSymbolSize, ~uint64_t{0}, wanted.size() % 2 == 0 ? 2u : 1u, {}});
    encodings[block.key] = block.encoded;
    Node& node = wanted.size() % 3 == 0 ? a : b;
    ASSERT_TRUE(node.store()->PutBlock(dump_, block.key, block.encoded).ok());
  }
  ASSERT_GT(wanted.size(), 4u);
  a.Record(dump_, 0, false);
  b.Record(dump_, 0, false);
  const auto fetch = [&](std::vector<BlockSymbols> symbols) {
    absl::Notification done;
    FetchResult result;
    c.replicator().FetchFromPeers(dump_, 3, {}, std::move(symbols), [&](FetchResult r) {
      result = std::move(r);
      done.Notify();
    });
    done.WaitForNotification();
    return result;
  };
  c.replicator().Start();
  const FetchResult result = fetch(wanted);
  EXPECT_EQ(result.peers_asked, 2u);
  ASSERT_EQ(result.symbols.size(), wanted.size());
  for (const BlockSymbols& symbols : result.symbols) {
    const std::string_view encoded = encodings.at(symbols.key);
    const std::string first(encoded.substr(0, kSymbolSize));
    const std::string second(encoded.substr(kSymbolSize, kSymbolSize));
    EXPECT_EQ(symbols.bytes, symbols.mask == 0b01 ? first : first + second);
  }
  // Of another encoding, cut otherwise, or beyond its end: left out.
  BlockSymbols other = wanted[0], uncut = wanted[0], beyond = wanted[0];
  other.key.digest ^= 1;
  uncut.symbol_size = 8;
  beyond.mask = uint64_t{1} << 62;
  EXPECT_TRUE(fetch({other, uncut, beyond}).symbols.empty());
  // What one peer has too few of another adds to, though neither has the block.
  const BlockKey nowhere{2, 12345, 77};
  a.incomplete().symbols = 0b001;
  b.incomplete().symbols = 0b110;
  std::string all;
  uint64_t mask = 0;
  for (const BlockSymbols& symbols : fetch({{nowhere, kSymbolSize, 0b111, 3, {}}}).symbols) {
    EXPECT_EQ(symbols.key, nowhere);
    EXPECT_EQ(symbols.mask & mask, 0u);
    mask |= symbols.mask;
    all += symbols.bytes;
  }
  EXPECT_EQ(mask, 0b111u);
  EXPECT_EQ(all.size(), 3u) << "a byte for each";
}

TEST_F(ReplicateTest, StoppingAnswersEveryWaitingFetch) {
  Node& a = Add();
  PutAll(a.store(), dump_, SmallDump());
  a.Record(dump_, 0, false);
  Node& b = Add();
  Replicator& replicator =
      b.replicator([](ReplicatorOptions* options) { options->max_fetches = 8; });
  // Not started: eight wait, the others are answered at once.
  int answered = 0;
  for (int i = 0; i < 20; i++) {
    replicator.FetchFromPeers(dump_, 1, {{1, 0, 10}}, {}, [&](const FetchResult& r) {
      EXPECT_TRUE(r.blocks.empty());
      answered++;
    });
  }
  EXPECT_EQ(answered, 12);
  replicator.Stop();
  EXPECT_EQ(answered, 20);
}

TEST_F(ReplicateTest, ATriggerStartsARound) {
  Node& a = Add();
  Node& b = Add();
  absl::Notification sealed;
  std::vector<size_t> batches;
  Replicator& replicator = b.replicator([&](ReplicatorOptions* options) {
    options->on_seal = [&](const DumpKey&, bool complete) {
      EXPECT_TRUE(complete);
      sealed.Notify();
    };
    options->on_blocks = [&](const DumpKey&, const std::vector<FetchedBlock>& blocks) {
      batches.push_back(blocks.size());
    };
  });
  replicator.Start();
  while (replicator.stats().rounds == 0) absl::SleepFor(absl::Milliseconds(5));
  PutAll(a.store(), dump_, SmallDump());
  a.Record(dump_, kNow - 1, true);
  replicator.Trigger();
  sealed.WaitForNotification();
  EXPECT_EQ(b.Set(dump_), a.Set(dump_));
  size_t blocks = 0;
  for (size_t batch : batches) {
    EXPECT_LE(batch, 16u);
    blocks += batch;
  }
  EXPECT_EQ(blocks, a.Set(dump_).first);
}

TEST_F(ReplicateTest, WhatADiskHasChangedIsTakenFromPeersAgain) {
  // Tables that are large enough to be damaged; what one peer cannot give, the other can.
  std::vector<StoredBlock> blocks;
  for (uint64_t window = 0; window < 48; ++window) {
    const std::string encoded =
        testing::EncodeBlock(12, 1, 0, 0, testing::RandomBytes(window, 60000));
    blocks.push_back({{1, window, DigestOf(1, window, encoded)}, encoded});
  }
  for (int i = 0; i < 3; ++i) {
    PutAll(Add().store(), dump_, blocks);
    nodes_[i]->Record(dump_, kNow - 1, true);
  }
  EXPECT_GE(nodes_[0]->Damage(100 << 10), 10u);
  EXPECT_GE(nodes_[1]->Damage(170 << 10), 5u);
  // Somebody reads one block of it.
  size_t unreadable = 0;
  for (const StoredBlock& block : blocks)
    unreadable += !nodes_[0]->store()->GetBlock(dump_, block.key).ok();
  ASSERT_GE(unreadable, 10u);
  ASSERT_TRUE(nodes_[0]->replicator().RunOnce().ok());
  EXPECT_TRUE(nodes_[0]->store()->Damaged().empty());
  EXPECT_EQ(nodes_[0]->replicator().stats().blocks_healed, unreadable);
  EXPECT_THAT(nodes_[0]->log(), HasSubstr("healed "));
  for (const StoredBlock& block : blocks)
    EXPECT_EQ(*nodes_[0]->store()->GetBlock(dump_, block.key), block.encoded);
  // And where nobody has read, scrubbing has.
  Replicator& other = nodes_[1]->replicator(
      [](ReplicatorOptions* options) { options->scrub_bytes_per_second = uint64_t{1} << 40; });
  absl::SleepFor(absl::Milliseconds(10));
  ASSERT_TRUE(other.RunOnce().ok());
  EXPECT_GE(other.stats().blocks_healed, 5u);
  EXPECT_TRUE(nodes_[1]->store()->Damaged().empty());
}

TEST_F(ReplicateTest, ManyRunsAndBucketsNeedSeveralRequests) {
  // 20000 blocks, every second one missing on b: more runs than one request names.
  Node& a = Add();
  Node& b = Add();
  const std::string zero_page = testing::EncodeBlock(12, 1, 1, 0, "");
  std::vector<StoredBlock> all;
  for (uint64_t n = 0; n < 20000; n++) {
    all.push_back({{2, n, DigestOf(2, n, zero_page)}, zero_page});
  }
  PutAll(a.store(), dump_, all);
  PutAll(b.store(), dump_, all, [](const BlockKey& key) { return key.number % 2 == 0; });
  // And EMPTY beside an encoding, as two answers of one sender may be.
  PutAll(a.store(), dump_, {{{2, 4, 0}, ""}});
  a.Record(dump_, kNow - 1, false);
  b.Record(dump_, kNow - 1, false);
  b.replicator([](ReplicatorOptions* options) { options->batch_blocks = 5000; });
  RunRound();
  EXPECT_EQ(b.Set(dump_).first, 20001u);
  EXPECT_EQ(a.Set(dump_), b.Set(dump_));
}

TEST(BlockMapTest, SurvivesTheWireAndRefusesNonsense) {
  BlockSet set;
  std::mt19937_64 random(3);
  for (int i = 0; i < 5000; i++) {
    const auto block_class = static_cast<uint8_t>(random() % 4);
    const uint64_t number = block_class == 0
                                ? dcast_class0_number(random() % DCAST_STREAMS, random() % 9000)
                                : random() % 100000;
    if (!set.HoldsNumber(block_class, number)) set.Add({block_class, number, random()}, 10);
  }
  const BlockMap map = BlockMap::FromSet(set);
  v1::GetBlockMapResponse proto;
  map.ToProto(&proto);
  const absl::StatusOr<BlockMap> back = BlockMap::FromProto(proto);
  ASSERT_TRUE(back.ok()) << back.status();
  for (uint8_t c = 0; c < DCAST_CLASSES; c++) EXPECT_EQ(back->numbers(c), map.numbers(c));
  EXPECT_TRUE(map.DifferingBuckets(*back, 10).empty());
  EXPECT_TRUE(back->DifferingBuckets(map, 10).empty());
  BlockSet more = set;
  more.Add({3, 77777, 5}, 10);
  more.Add({0, dcast_class0_number(4, 100), 6}, 10);
  const BlockMap theirs = BlockMap::FromSet(more);
  EXPECT_EQ(map.DifferingBuckets(theirs, 10),
            (std::vector<BlockRun>{{0, dcast_class0_number(4, 0), 4096},
                                   {3, 77777 / 4096 * 4096, 4096}}));

  for (const auto& spoil : std::vector<std::function<void(v1::ClassMap*)>>{
           [](v1::ClassMap* m) { m->set_block_class(4); },
           [](v1::ClassMap* m) {
             m->set_block_class(1);
             m->set_stream(1);
           },
           [](v1::ClassMap* m) { m->set_stream(DCAST_STREAMS); },
           [](v1::ClassMap* m) { m->set_roaring(0, "garbage"); }}) {
    v1::GetBlockMapResponse bad = proto;
    spoil(bad.mutable_classes(0));
    EXPECT_EQ(BlockMap::FromProto(bad).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace dumpcast
