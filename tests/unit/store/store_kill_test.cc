// SPDX-License-Identifier: Apache-2.0
// What was flushed survives SIGKILL: a child writes and says over a pipe what it was promised; the
// parent kills it at a moment of its own and compares the store with an expected-state oracle.
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "store/store.h"
#include "tests/unit/store/store_fixture.h"

namespace dumpcast {
namespace {

using testing::DumpOf;
using testing::OpenOrDie;
using testing::RandomBytes;
using testing::RecordOf;
using testing::TempDir;

constexpr uint64_t kBatch = 40;

std::string Content(uint64_t number) {
  return RandomBytes(number, 500 + number * 7919 % 30000);
}

// Writes batches of blocks for ever, flushes each, then seals a record; after each promise writes
// the batch's number to `pipe`.
[[noreturn]] void RunChild(const std::string& path, uint64_t first_batch, int pipe) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  auto store = OpenOrDie(path);
  for (uint64_t batch = first_batch;; batch++) {
    for (uint64_t i = 0; i < kBatch; i++) {
      const uint64_t number = batch * kBatch + i;
      if (!store->PutBlock(DumpOf(1, 1), {1, number, number + 1}, Content(number)).ok()) _exit(2);
    }
    if (!store->Flush().ok()) _exit(3);
    v1::DumpRecord record = RecordOf(DumpOf(1, 1));
    record.set_seal_unix_ns(static_cast<int64_t>(batch) + 1);
    if (!store->PutDump(record).ok()) _exit(4);
    if (write(pipe, &batch, sizeof(batch)) != sizeof(batch)) _exit(5);
    // Blocks that nobody was promised: they may be lost, but not half.
    for (uint64_t i = 0; i < 5; i++) {
      const uint64_t number = (1ull << 32) + batch * 5 + i;
      if (!store->PutBlock(DumpOf(1, 1), {2, number, number + 1}, Content(number)).ok()) _exit(6);
    }
  }
}

// The child's side: runs in a process image of its own, since the database's threads of the parent
// do not come through a fork.
TEST(StoreKillTest, DISABLED_Child) {
  const char* path = getenv("DUMPCAST_KILL_STORE");
  ASSERT_NE(path, nullptr) << "EveryPromiseIsKeptAfterSigkill starts this";
  RunChild(path, strtoull(getenv("DUMPCAST_KILL_BATCH"), nullptr, 10),
           atoi(getenv("DUMPCAST_KILL_PIPE")));
}

TEST(StoreKillTest, EveryPromiseIsKeptAfterSigkill) {
  TempDir dir;
  std::mt19937 random(20240607);
  uint64_t promised = 0;  // batches
  for (int round = 0; round < 6; round++) {
    int pipe_ends[2];
    ASSERT_EQ(pipe(pipe_ends), 0);
    const std::string store_env = "DUMPCAST_KILL_STORE=" + dir.path();
    const std::string batch_env = "DUMPCAST_KILL_BATCH=" + std::to_string(promised);
    const std::string pipe_env = "DUMPCAST_KILL_PIPE=" + std::to_string(pipe_ends[1]);
    std::vector<char*> envs;
    for (const std::string* e : {&store_env, &batch_env, &pipe_env}) {
      envs.push_back(const_cast<char*>(e->c_str()));
    }
    for (char** e = environ; *e != nullptr; e++) envs.push_back(*e);
    envs.push_back(nullptr);
    char self[] = "/proc/self/exe";
    char filter[] = "--gtest_filter=StoreKillTest.DISABLED_Child";
    char disabled[] = "--gtest_also_run_disabled_tests";
    char* args[] = {self, filter, disabled, nullptr};
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(pipe_ends[0]);
      dup2(2, 1);
      execve(self, args, envs.data());
      _exit(127);
    }
    close(pipe_ends[1]);
    const unsigned batches = 1 + random() % 6;
    uint64_t batch = 0;
    for (unsigned i = 0; i < batches; i++) {
      ASSERT_EQ(read(pipe_ends[0], &batch, sizeof(batch)), static_cast<ssize_t>(sizeof(batch)));
      promised = batch + 1;
    }
    usleep(random() % 30000);  // somewhere inside the next batch, its flush or its record
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself: " << WEXITSTATUS(status);
    // Promises that were under way when it died count, too.
    while (read(pipe_ends[0], &batch, sizeof(batch)) == static_cast<ssize_t>(sizeof(batch))) {
      promised = batch + 1;
    }
    close(pipe_ends[0]);

    auto store = OpenOrDie(dir.path());
    const DumpKey dump = DumpOf(1, 1);
    for (uint64_t n = 0; n < promised * kBatch; n++) {
      absl::StatusOr<std::string> block = store->GetBlock(dump, {1, n, n + 1});
      ASSERT_TRUE(block.ok()) << "round " << round << " block " << n << ": " << block.status();
      ASSERT_EQ(*block, Content(n));
    }
    ASSERT_GE(store->GetDump(dump)->seal_unix_ns(), static_cast<int64_t>(promised));
    // Index and blocks agree, also about what was never promised; and all that is found is durable.
    for (uint8_t block_class : {1, 2}) {
      std::set<BlockKey> indexed;
      std::set<BlockKey> stored;
      ASSERT_TRUE(store
                      ->ScanBlocks(dump, block_class, 0, ~0ull, false,
                                   [&](const BlockKey& key, std::string_view) {
                                     indexed.insert(key);
                                     return true;
                                   })
                      .ok());
      ASSERT_TRUE(store
                      ->ScanBlocks(dump, block_class, 0, ~0ull, true,
                                   [&](const BlockKey& key, std::string_view encoded) {
                                     stored.insert(key);
                                     EXPECT_EQ(encoded, Content(key.number));
                                     return true;
                                   })
                      .ok());
      ASSERT_EQ(indexed, stored);
      ASSERT_TRUE(store
                      ->ReadBlockSets(dump,
                                      [&](const DumpBlocks& blocks) {
                                        EXPECT_EQ(blocks.durable.numbers(block_class).Count(),
                                                  indexed.size());
                                      })
                      .ok());
    }
  }
}

}  // namespace
}  // namespace dumpcast
