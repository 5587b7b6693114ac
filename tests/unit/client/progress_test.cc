// SPDX-License-Identifier: Apache-2.0
#include "client/progress.h"

#include <gtest/gtest.h>
#include <sstream>

namespace dumpcast {
namespace {

class ProgressTest : public ::testing::Test {
 protected:
  ProgressTest() {
    env_.err = &err_;
    env_.now = [this] { return now_; };
    env_.columns = [this] { return columns_; };
  }
  // Text since the last call.
  std::string Shown() {
    std::string text = err_.str();
    err_.str("");
    return text;
  }

  std::ostringstream err_;
  absl::Time now_ = absl::FromUnixSeconds(1000);
  int columns_ = 100;
  Environment env_;
};

TEST_F(ProgressTest, PrintsALineEveryFiveSecondsWithoutATerminal) {
  Progress progress(&env_, false);
  for (int second = 0; second <= 10; ++second) {
    progress.Update(static_cast<uint64_t>(second) << 20, 100 << 20);
    now_ += absl::Seconds(1);
  }
  EXPECT_EQ(Shown(),
            "  5.0%  5.0 MiB of 100 MiB  1.0 MiB/s  1:35 left\n"
            " 10.0%  10.0 MiB of 100 MiB  1.0 MiB/s  1:30 left\n");
  progress.Finish();
  EXPECT_EQ(Shown(), "");
}

TEST_F(ProgressTest, RedrawsABarOnATerminal) {
  env_.err_is_tty = true;
  Progress progress(&env_, false);
  progress.Update(0, 100 << 20);
  EXPECT_EQ(Shown(), "\r\x1b[K[" + std::string(40, '.') + "]   0.0%  0 B of 100 MiB");
  now_ += absl::Milliseconds(50);
  progress.Update(1 << 20, 100 << 20);
  EXPECT_EQ(Shown(), "") << "not more often than the eye follows";
  now_ += absl::Milliseconds(950);
  progress.Update(50 << 20, 100 << 20);
  EXPECT_EQ(Shown(), "\r\x1b[K[" + std::string(20, '#') + std::string(20, '.') +
                         "]  50.0%  50.0 MiB of 100 MiB  50.0 MiB/s  0:01 left");
  progress.Note("a note");
  EXPECT_EQ(Shown(), "\r\x1b[Kdumpcast: a note\n");
}

TEST_F(ProgressTest, FitsANarrowTerminal) {
  env_.err_is_tty = true;
  columns_ = 20;
  Progress progress(&env_, false);
  progress.Update(1 << 20, 100 << 20);
  EXPECT_LT(Shown().size(), 20 + std::string("\r\x1b[K").size());
}

TEST_F(ProgressTest, ARestartMakesNoNegativeRate) {
  Progress progress(&env_, false);
  progress.Update(50 << 20, 100 << 20);
  now_ += absl::Seconds(6);
  progress.Update(90 << 20, 100 << 20);
  Shown();
  now_ += absl::Seconds(6);
  progress.Update(0, 100 << 20);
  EXPECT_EQ(Shown(), "  0.0%  0 B of 100 MiB\n");
}

}  // namespace
}  // namespace dumpcast
